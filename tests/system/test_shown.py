"""Every command and every piece of configuration that the pages show, on hosts such as the pages speak of.

A block between fences says what it is: `sh` is typed line by line, on the gateway or on the device, in the order of the
page, and each line must end with 0; `toml` is a server.toml or a part of one, which `spa-server check` must find good;
`toml profile` is a device's profile; `text` and `yaml` are neither. A line that cannot be run here stands in EXCUSED
with its reason. What a page takes for granted between two lines (who is enrolled, which host it is) is in BEFORE.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import harness
from harness import BIN, ROOT
from world import HOST, World, plain

PROFILE = f"{HOST}.toml"
KINDS = ("sh", "toml", "toml profile", "text", "yaml")
# The wire's formats, as they were agreed upon: no command, no configuration.
INDENTED = ("docs/protocol.md",)
BASE = {
    "gateway": f'[gateway]\nhost = "{HOST}"\n',
    "lock-out": '[lock-out]\nalways-allow = ["192.0.2.0/28"]\n',
    "service": "".join(
        f'[[service]]\nname = "{name}"\nbackends = ["{harness.BACKEND}"]\nports = ["tcp/{port}"]\nprotect = true\n'
        for name, port in (("ssh", 22), ("db", 5432))
    ),
}
CARD = '\n[[sequence]]\nname = "card"\nservice = "ssh"\nrolling = true\nstep = "1d"\n'
EXCUSED = {
    r"scripts/(bench|demo|fuzz|record|static|test)\.sh|\.ci/run": "takes minutes; this is a part of it",
    r"scripts/package(-test)?\.sh|install -m \d+ \S|systemd-(sysusers|tmpfiles)": "package-test.sh installs it all",
    r"cargo (build|test)|llvm-|export RUSTC_BOOTSTRAP|SPA_SIMULATION|rustup": "compiles; the parts rust and fuzz do it",
    r"apt(-get)? |pip ": "changes this machine's packages",
    r"systemctl |journalctl|timedatectl": "systemd is not pid 1 here; test_units reads the units",
    r"spa-keys gateway drop|spa-keys rename anna\.2": "test_keys.Rotation does it, with devices that have moved",
    r"spa-client ssh --clock-offset": "the clock here is right; test_client_check does it with one that is not",
    r"spa-client enroll --also": "needs a second gateway; test_client.Through.test_two_gateways_the_first_dead has one",
    r"ansible-": "test_ansible runs the playbook",
    r"spa-server status --watch$": "needs a terminal; test_status_watch has one",
    r"ssh gateway ": "another host, with a name of its own for the gateway",
    r"fail2ban-regex ": "needs fail2ban; test_logs runs it where it is",
}


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    page: str
    line: int
    kind: str
    text: str

    def commands(self) -> list[str]:
        joined = self.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    name, found, begun = str(page.relative_to(ROOT)), [], None
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            if begun is None:
                begun = (number, line[3:])
            else:
                found.append(Block(name, begun[0], begun[1], "\n".join(lines[begun[0] : number - 1]) + "\n"))
                begun = None
    return found


def indented(page: Path) -> list[str]:
    """Blocks of the other manner, which nothing would run: lines with four blanks behind an empty one."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
    return re.findall(r"(?m)^\n {4,}\S.*$", text)


def excuse(command: str) -> str | None:
    return next((pattern for pattern in EXCUSED if re.match(pattern, plain(command))), None)


def new_host(world: World) -> None:
    """The backup is all that is left."""
    world.stop()
    for backup in world.home.glob("*.backup"):
        shutil.copy(backup, world.work)
    shutil.rmtree(world.etc / "spa")
    shutil.rmtree(world.lib / "spa")
    shutil.rmtree(world.run_folder / "spa", ignore_errors=True)


def person_enrolls_as_anna_phone(world: World) -> None:
    world.do("spa-keys remove anna-phone")
    world.add("anna-phone")


def write_psk(world: World) -> None:
    psk = tomllib.loads((world.work / "anna.toml").read_text())["psk"]
    (world.work / "anna.psk").write_text(f"{psk}\n")
    (world.work / "anna.psk").chmod(0o600)


def put_client_here(world: World) -> None:
    """The one file, on a phone that knows no gateway yet."""
    shutil.copy(BIN / "spa-client", world.work)
    shutil.rmtree(world.home / ".config", ignore_errors=True)
    world.invite = world.do("spa-keys invite phone --services ssh")


def write_card(world: World) -> None:
    shutil.rmtree(world.etc / "spa" / "sequences.d", ignore_errors=True)
    server = world.etc / "spa" / "server.toml"
    server.write_text(server.read_text() + CARD)


def put_profile(world: World) -> None:
    folder = world.home / ".config" / "spa" / "rolling"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.toml").write_text(world.profile)
    (folder / "card.toml").chmod(0o600)


def invite_anna(world: World) -> None:
    world.invite = world.do("spa-keys invite anna --services ssh")


def is_anna(world: World) -> None:
    world.is_client("anna")


def capture(world: World) -> None:
    if not (world.work / "knocks.pcap").exists():
        world.run_line("tcpdump -i any -s 0 -w knocks.pcap udp port 62201")


def count_for_prometheus(world: World) -> None:
    server = world.etc / "spa" / "server.toml"
    server.write_text(server.read_text() + '\n[metrics]\nlisten = "127.0.0.1:9798"\n')
    world.stop()
    world.start()


def copy_audit_log(world: World) -> None:
    shutil.copy(world.lib / "spa" / "audit.log", world.work)


def find_hash(world: World) -> None:
    """Of the last line, as somebody has kept it."""
    world.words["HASH"] = json.loads(world.do("spa-server audit verify --json"))["head"]


BEFORE: dict[tuple[str, str], Callable[[World], object]] = {
    ("README.md", "spa-client ssh gw.example.net -l anna"): is_anna,
    ("README.md", "spa-server uninstall"): World.stop,
    ("docs/audit.md", "spa-server audit verify"): copy_audit_log,
    ("docs/audit.md", "spa-server audit verify --from HASH"): find_hash,
    ("docs/audit.md", "spa-server audit verify --head HASH"): find_hash,
    ("docs/client.md", "spa-client enroll"): invite_anna,
    ("docs/client.md", "spa-client ssh gw.example.net -l anna"): is_anna,
    ("docs/client.md", "spa-client check gw.example.net"): lambda world: world.enroll("anna-again"),
    ("docs/client.md", "chmod +x spa-client && ./spa-client enroll"): put_client_here,
    ("docs/guide.md", "spa-client ssh gw.example.net -l anna"): is_anna,
    ("docs/guide.md", "chmod +x spa-client && ./spa-client enroll"): put_client_here,
    ("docs/guide.md", "spa-keys sequence card --new"): write_card,
    ("docs/guide.md", "spa-client knock --rolling card"): put_profile,
    ("docs/keys.md", "spa-keys set anna-phone --one-time-code 6"): person_enrolls_as_anna_phone,
    ("docs/keys.md", "spa-keys remove bob"): lambda world: world.do("spa-keys invite bob --services ssh"),
    ("docs/keys.md", "spa-keys gateway rotate --valid 30d --out invites"): lambda world: world.add("anna", "bob"),
    ("docs/keys.md", "spa-keys import public.toml --name anna --psk-file anna.psk --replace"): write_psk,
    ("docs/keys.md", "spa-server restore gateway.backup"): new_host,
    ("docs/operations.md", "spa-server restore gateway.backup"): new_host,
    ("docs/operations.md", "spa-keys reset-replay bob --yes"): lambda world: world.add("bob"),
    ("docs/operations.md", "spa-server status"): World.start,
    ("docs/operations.md", "spa-server uninstall"): World.stop,
    ("docs/seeing.md", "curl http://127.0.0.1:9798/metrics"): count_for_prometheus,
    ("docs/seeing.md", "spa-server simulate --capture knocks.pcap"): capture,
    ("docs/sequences.md", "spa-keys sequence card --new"): write_card,
    ("docs/sequences.md", "spa-client knock --rolling card"): put_profile,
}
# Pages that begin with a host on which nothing is set up, and those whose device is not enrolled yet.
BARE = ("README.md",)
NOT_ENROLLED = ("docs/client.md", "docs/keys.md", "docs/guide.md")


class Blocks(unittest.TestCase):
    def test_every_block_says_what_it_is(self) -> None:
        for page in pages():
            name = str(page.relative_to(ROOT))
            with self.subTest(name):
                wrong = [(block.line, block.kind) for block in blocks(page) if block.kind not in KINDS]
                self.assertEqual(wrong, [])
                if name not in INDENTED:
                    self.assertEqual(indented(page), [], "put it between fences: nothing would run it")

    def test_nothing_is_excused_or_prepared_that_is_not_there(self) -> None:
        lines = {(block.page, plain(line)) for page in pages() for block in blocks(page) for line in block.commands()}
        self.assertEqual(set(BEFORE) - lines, set())
        self.assertEqual(set(EXCUSED) - {excuse(line) for _, line in lines}, set())


class Shown(unittest.TestCase):
    """One test for each page, made below."""

    maxDiff = None

    def walk(self, page: Path) -> None:
        shown = [block for block in blocks(page) if block.kind != "text"]
        lines = [line for block in shown if block.kind == "sh" for line in block.commands() if not excuse(line)]
        configured = [block for block in shown if block.kind.startswith("toml")]
        if not lines and not configured:
            return
        name = str(page.relative_to(ROOT))
        world = World(self, installed=name not in BARE)
        if name not in BARE:
            world.set_up()
        if name not in (*BARE, *NOT_ENROLLED):
            world.enroll()
        for block in configured:
            with self.subTest(f"{name}:{block.line}"):
                self.check_profile(world, block) if block.kind == "toml profile" else self.check_toml(world, block)
        for line in lines:
            BEFORE.get((name, plain(line)), lambda _: None)(world)
            done = world.run_line(line)
            self.assertEqual(done.returncode, 0, f"{name}: {line}\n{done.stdout}{done.stderr}{log(world)}")

    def check_toml(self, world: World, block: Block) -> None:
        tables = tomllib.loads(block.text)
        before = "".join(text for table, text in BASE.items() if table not in tables)
        file = world.etc / "spa" / "shown.toml"
        file.write_text(before + block.text)
        file.chmod(0o640)
        for sequence in tables.get("sequence", []):
            self.provide(world, file, sequence)
        done = world.type(f"spa-server check --config {Path('/etc/spa') / file.name}")
        self.assertEqual(done.returncode, 0, f"{block.page}:{block.line}\n{done.stdout}{done.stderr}")

    def provide(self, world: World, file: Path, sequence: dict[str, object]) -> None:
        """The key or the list that a sequence names."""
        folder = world.etc / "spa" / "sequences.d"
        folder.mkdir(mode=0o700, exist_ok=True)
        if sequence.get("rolling"):
            world.do(f"spa-keys sequence {sequence['name']} --new --config /etc/spa/{file.name}")
        if isinstance(listed := sequence.get("one-time"), str):
            (folder / listed).write_text("7311/tcp 15002/udp 9040/tcp\n")
            (folder / listed).chmod(0o600)

    def check_profile(self, world: World, block: Block) -> None:
        world.enroll("profile")
        real = (world.home / ".config" / "spa" / PROFILE).read_text()
        keys = re.findall(r'(?m)^(?:gateway-public-key|gateway-hmac-key|private-key|psk) = ".*"$', real)
        self.assertEqual(len(keys), 4)
        shown = re.sub(r'(?m)^.* = "\.\.\.".*$', "\n".join(keys), block.text)
        file = world.home / ".config" / "spa" / "shown.toml"
        file.write_text(shown)
        file.chmod(0o600)
        world.do("spa-client show shown")
        shutil.rmtree(world.home / ".config")


def log(world: World) -> str:
    return f"\n--- log\n{world.daemon.text()}" if world.daemon else ""


def test_of(page: Path) -> Callable[[Shown], None]:
    return lambda self: self.walk(page)


for _page in pages():
    _name = re.sub(r"\W+", "_", str(_page.relative_to(ROOT)).removesuffix(".md")).lower()
    setattr(Shown, f"test_{_name}", test_of(_page))


def setUpModule() -> None:
    harness.require("ssh", "ssh-keygen", "knock")


if __name__ == "__main__":
    unittest.main()
