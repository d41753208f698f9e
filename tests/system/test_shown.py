"""Every command and every piece of configuration that the pages show, on hosts such as the pages speak of.

A block between fences says what it is: `sh` is typed line by line, on the gateway or on the device, in the order of the
page, and each line must end with 0; `toml` is a server.toml or a part of one, which `spa-server check` must find good;
`toml profile` is a device's profile; `text` and `yaml` are neither. A line that cannot be run here stands in EXCUSED with
its reason. What a page takes for granted between two lines (who is enrolled, which host it is) is in BEFORE.
"""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import subprocess
import tomllib
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import harness
import spa1
from harness import BIN, FAMILIES, GATEWAY, ROOT, Done, Host, Network, Process, Sshd, eventually, run

PROGRAMS = ("spa-server", "spa-keys", "spa-client")
HOST = "gw.example.net"
PROFILE = f"{HOST}.toml"
# Typed on the device; all else is typed on the gateway.
ON_THE_DEVICE = ("spa-client", "ssh", "scp", "knock", "chmod")
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
EXCUSED = {
    r"scripts/(demo|record|test)\.sh|\.ci/run|scripts/static\.sh|scripts/fuzz\.sh": "takes minutes; this test is a part of it",
    r"scripts/package(-test)?\.sh|install -m \d+ \S|systemd-(sysusers|tmpfiles)": "scripts/package-test.sh installs it all",
    r"cargo (build|test)|llvm-|export RUSTC_BOOTSTRAP|SPA_SIMULATION|rustup": "compiles; the parts rust and fuzz do it",
    r"apt(-get)? |pip ": "changes this machine's packages",
    r"systemctl |journalctl|timedatectl": "systemd is not pid 1 here; test_units reads the units",
    r"docker ": "no Docker daemon here; spa-server/tests/published.rs plays its chains",
    r"spa-keys gateway drop|spa-keys rename anna\.2": "test_keys.Rotation does it, with devices that have moved",
    r"spa-client ssh --clock-offset": "the clock here is right; test_client_check does it with one that is not",
    r"spa-client enroll --also": "needs a second gateway; test_client.Through.test_two_gateways_the_first_dead has one",
    r"ansible-": "test_ansible runs the playbook",
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
    return re.findall(r"(?m)^\n {4}\S.*$", text)


def excuse(command: str) -> str | None:
    return next((pattern for pattern in EXCUSED if re.match(pattern, command)), None)


def plain(command: str) -> str:
    """Without the comment behind it."""
    return re.sub(r"\s+# .*$", "", command)


class World:
    """A gateway and a device, whose system folders are the test's own, and an sshd with an account `anna`."""

    def __init__(self, case: unittest.TestCase, installed: bool = True) -> None:
        self.case, self.network = case, Network()
        case.addCleanup(self.network.remove)
        folder = self.network.folder
        self.work, self.home, self.etc, self.lib = (folder / name for name in ("work", "home", "etc", "lib"))
        self.local, self.run_folder = folder / "local", folder / "run"
        for made in (self.work, self.home / ".ssh", self.lib, self.run_folder, self.local / "bin", self.local / "sbin"):
            made.mkdir(parents=True)
        (self.home / ".ssh").chmod(0o700)
        self.make_etc()
        self.make_programs(installed)
        binds = {"/etc": self.etc, "/var/lib": self.lib, "/run": self.run_folder, "/usr/local": self.local}
        self.binds = {**binds, "/root": self.home}
        self.daemon: Process | None = None
        self.invite = self.profile = ""
        self.make_sshd()

    # What stands on the hosts

    def make_etc(self) -> None:
        shutil.copytree("/etc", self.etc, symlinks=True)
        shutil.rmtree(self.etc / "spa", ignore_errors=True)
        names = "".join(f"{GATEWAY[family]} {HOST}\n" for family in FAMILIES)
        (self.etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{names}")
        for file, line in (("passwd", "anna:x:0:0::/root:/bin/sh\n"), ("shadow", "anna:*:19000:0:99999:7:::\n")):
            with (self.etc / file).open("a") as accounts:
                accounts.write(line)

    def make_programs(self, installed: bool) -> None:
        built = self.work / "target" / "release"
        built.mkdir(parents=True)
        for name in PROGRAMS:
            (built / name).symlink_to(BIN / name)
        # Scripts, not links: a page may install something in their place.
        own = [(f"sbin/{name}", f'exec {BIN / name} "$@"') for name in PROGRAMS if installed]
        # Somebody's own programs that the pages name.
        for place, text in (*own, ("bin/vpn", "exit 0"), ("bin/pass", "echo a passphrase")):
            (self.local / place).write_text(f"#!/bin/sh\n{text}\n")
            (self.local / place).chmod(0o755)

    def make_sshd(self) -> None:
        sshd = Sshd(self.network, {"/etc": self.etc})
        self.case.addCleanup(sshd.remove)
        keys = (sshd.folder / "host.pub").read_text()
        (self.home / ".ssh" / "known_hosts").write_text("".join(f"{name} {keys}" for name in (HOST, *GATEWAY.values())))
        (self.home / ".ssh" / "config").write_text(
            f"Host *\n    IdentityFile {sshd.folder}/user\n    IdentitiesOnly yes\n    BatchMode yes\n"
        )

    # Typing

    def argv(self, host: Host, command: str) -> list[str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        script = f"cd {self.work} && {command}"
        clean = ("env", "-i", f"PATH={path}", "HOME=/root", "LANG=C.UTF-8")
        return host.argv(*clean, "bash", "-c", script, bind=self.binds)

    def type(self, command: str, stdin: str = "") -> Done:
        on_device = plain(command).split()[0].removeprefix("./") in ON_THE_DEVICE
        host = self.network.friend if on_device else self.network.gateway
        return run(*self.argv(host, command), check=False, stdin=stdin, timeout=60)

    def do(self, command: str, stdin: str = "") -> str:
        """For what a page takes for granted."""
        done = self.type(command, stdin)
        self.case.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        if self.daemon:
            return
        daemon = Process(self.argv(self.network.gateway, "exec spa-server run"))
        self.daemon = daemon
        self.case.addCleanup(daemon.end)
        eventually(lambda: "ready" in daemon.out or daemon.process.poll() is not None, 20, "ready")
        self.case.assertEqual(daemon.out, ["ready"], daemon.text())

    def stop(self) -> None:
        if self.daemon:
            self.daemon.process.send_signal(signal.SIGTERM)
            self.case.assertEqual(self.daemon.wait(), 0, self.daemon.text())
            self.daemon.end()
            self.daemon = None

    def watch(self, command: str) -> Done:
        """What goes on until Ctrl-C."""
        watching = Process(self.argv(self.network.friend, f"exec {plain(command)}"))
        self.case.addCleanup(watching.end)
        eventually(lambda: "open" in "".join(watching.out + watching.err), 15, f"{command}: {watching.text()}")
        watching.process.send_signal(signal.SIGINT)
        code = watching.wait()
        return subprocess.CompletedProcess(command, 0 if code in (0, 130, -signal.SIGINT) else code, "", watching.text())

    def run_line(self, command: str) -> Done:
        """A line of a page."""
        bare = plain(command)
        if bare == "spa-server run":
            self.start()
            return subprocess.CompletedProcess(bare, 0, "", "")
        if bare.startswith("spa-client watch"):
            return self.watch(command)
        done = self.type(command, self.invite if bare.endswith("spa-client enroll") else "")
        if found := re.search(r"^spa1-invite:\S+$", done.stdout, re.MULTILINE):
            self.invite = found[0] + "\n"
        if bare.endswith("--profile"):
            self.profile = done.stdout
        return done

    # What is there beforehand

    def set_up(self) -> None:
        self.do(f"spa-server init --host {HOST} --service ssh=tcp/22 --service db=tcp/5432 --always-allow 192.0.2.0/28")
        if harness.BACKEND != "iptables":
            file = self.etc / "spa" / "server.toml"
            file.write_text(file.read_text().replace('"iptables"]', f'"{harness.BACKEND}"]'))
        self.start()

    def enroll(self, name: str = "anna") -> None:
        """The device becomes this client."""
        shutil.rmtree(self.home / ".config", ignore_errors=True)
        self.do("spa-client enroll", self.do(f"spa-keys invite {name} --services ssh"))
        self.is_client(name)

    def is_client(self, name: str) -> None:
        eventually(lambda: (self.etc / "spa" / "clients.d" / f"{name}.toml").exists(), 5, f"{name} enrolled")

    def add(self, *names: str) -> None:
        """Clients whose devices are elsewhere."""
        for name in names:
            public = spa1.to_base64(spa1.public_key(secrets.token_bytes(32)))
            psk = spa1.to_base64(secrets.token_bytes(32))
            self.do(f"spa-keys add {name} --public-key={public} --psk-file - --services ssh", psk)


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
    server.write_text(server.read_text() + '\n[[sequence]]\nname = "card"\nservice = "ssh"\nrolling = true\nstep = "1d"\n')


def put_profile(world: World) -> None:
    folder = world.home / ".config" / "spa" / "rolling"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.toml").write_text(world.profile)
    (folder / "card.toml").chmod(0o600)


def invite_anna(world: World) -> None:
    world.invite = world.do("spa-keys invite anna --services ssh")


def is_anna(world: World) -> None:
    world.is_client("anna")


BEFORE: dict[tuple[str, str], Callable[[World], object]] = {
    ("README.md", "spa-client ssh gw.example.net -l anna"): is_anna,
    ("README.md", "spa-server uninstall"): World.stop,
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
        used = {excuse(line) for _, line in lines}
        self.assertLessEqual({pattern for pattern in EXCUSED if "docker" not in pattern}, used)


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
