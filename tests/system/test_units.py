"""The unit files of packaging/systemd, as systemd-analyze reads them, and what lies beside them."""

from __future__ import annotations

import re
import shutil
import tempfile
import unittest
from pathlib import Path

import harness
from harness import BIN, ROOT, Done, run

PACKAGING = ROOT / "packaging"
UNITS = {path.name: path for path in (PACKAGING / "systemd").glob("*.service")}
PROGRAM = "/usr/sbin/spa-server"
# systemd's own figure, in tenths, where 100 is no sandbox at all. What is left of it: root that changes a firewall.
MOST_EXPOSED = {"spa-server.service": 34, "spa-close-overdue.service": 34, "spa-protect.service": 36}
# From this line on all three are the same.
SANDBOX = "# What the three units of spa may do"
# What a section of examples may hold without a reason of its own: an assignment that resets a list.
REASONED = ("CapabilityBoundingSet", "ReadWritePaths", "RestrictAddressFamilies", "SystemCallFilter")


def setUpModule() -> None:
    harness.require()
    if not shutil.which("systemd-analyze"):
        raise unittest.SkipTest("not there: systemd-analyze, of Debian's package systemd")


class Units(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="spa-units-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.assertEqual(len(UNITS), 3)
        for name, unit in UNITS.items():
            # systemd-analyze looks for the program too.
            text = unit.read_text().replace(PROGRAM, str(BIN / "spa-server"))
            self.assertIn(str(BIN), text)
            (self.folder / name).write_text(text)

    def analyze(self, *argv: str | Path) -> Done:
        return run("systemd-analyze", "--no-pager", *argv, check=False)

    def test_systemd_finds_nothing_wrong(self) -> None:
        done = self.analyze("verify", "--man=no", *sorted(self.folder.glob("*.service")))
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_mistake_would_be_found(self) -> None:
        unit = self.folder / "spa-server.service"
        text = unit.read_text().replace("Type=notify", "Type=notfy")
        unit.write_text(text.replace("NoNewPrivileges", "NoNewPrivilegs"))
        self.assertRegex(self.analyze("verify", "--man=no", unit).stderr, "(?s)notfy.*NoNewPrivilegs")

    def test_the_sandbox_is_as_tight_as_it_was(self) -> None:
        for name, most in MOST_EXPOSED.items():
            done = self.analyze("security", "--offline=yes", f"--threshold={most}", self.folder / name)
            overall = re.search(r"Overall exposure level for .*", done.stdout)
            assert overall, done.stderr
            print(overall[0])
            self.assertEqual(done.returncode, 0, done.stdout)
            # The figure is really looked at.
            looser = self.analyze("security", "--offline=yes", f"--threshold={most - 10}", self.folder / name)
            self.assertNotEqual(looser.returncode, 0)

    def test_a_person_s_commands_can_be_let_out_of_it(self) -> None:
        example = (PACKAGING / "systemd" / "examples" / "commands.conf").read_text()
        whole = re.sub(r"^#(?=[A-Z]\w+=)", "", example, flags=re.MULTILINE)
        self.assertGreater(len(re.findall(r"^[A-Z]\w+=", whole, re.MULTILINE)), 6)
        below = self.folder / "spa-server.service.d"
        below.mkdir()
        (below / "commands.conf").write_text(whole)
        done = self.analyze("verify", "--man=no", self.folder / "spa-server.service")
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class Texts(unittest.TestCase):
    def test_all_units_share_one_sandbox(self) -> None:
        sandboxes = {unit.read_text().partition(SANDBOX)[2].partition("[Install]")[0] for unit in UNITS.values()}
        self.assertEqual(len(sandboxes), 1)
        self.assertGreater(len(sandboxes.pop().splitlines()), 50)

    def test_each_exception_has_its_reason_above_it(self) -> None:
        for name, unit in UNITS.items():
            lines = unit.read_text().partition(SANDBOX)[2].splitlines()
            for before, line in zip(lines, lines[1:], strict=False):
                key, _, value = line.partition("=")
                # The first line of a list closes all; the base of the filter and what it loses are no exceptions.
                if key in REASONED and value and not value.startswith(("@system-service", "~")):
                    self.assertTrue(before.startswith("# "), f"{name}: {line} has no reason above it")

    def test_every_page_that_a_unit_names_exists(self) -> None:
        made = {f"{path.stem}({path.suffix[1:]})" for path in (ROOT / "docs" / "man").iterdir()}
        for unit in UNITS.values():
            named = re.findall(r"man:(\S+)", unit.read_text())
            self.assertTrue(named)
            self.assertLessEqual(set(named), made | {"spa-server(8)"})


class Users(unittest.TestCase):
    def setUp(self) -> None:
        for tool in ("systemd-sysusers", "systemd-tmpfiles"):
            if not shutil.which(tool):
                self.skipTest(f"not there: {tool}")
        folder = tempfile.TemporaryDirectory(prefix="spa-root-")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "etc").mkdir()

    def make(self, program: str, *options: str) -> None:
        configuration = PACKAGING / f"{program.removeprefix('systemd-')}.d" / "spa.conf"
        done = run(program, *options, f"--root={self.root}", configuration, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_users_are_made_and_folders_are_theirs(self) -> None:
        run("systemd-sysusers", f"--root={self.root}", PACKAGING / "sysusers.d" / "spa.conf")
        users = dict(line.split(":", 1) for line in (self.root / "etc/passwd").read_text().splitlines())
        groups = dict(line.split(":", 1) for line in (self.root / "etc/group").read_text().splitlines())
        self.assertEqual(users["spa"].split(":")[-1], "/usr/sbin/nologin")
        self.assertEqual(set(groups), {"spa", "spa-admin"})
        self.assertNotIn("spa", groups["spa-admin"].split(":")[-1], "the daemon is not in its own socket's group")
        spa = int(users["spa"].split(":")[1])
        # As `spa-server init` leaves them where there was no user spa yet.
        for name in ("etc/spa/clients.d", "var/lib/spa"):
            (self.root / name).mkdir(parents=True)
            (self.root / name / "file").write_text("secret")
            (self.root / name / "file").chmod(0o600)
        self.make("systemd-tmpfiles", "--create")
        expected = {
            "run/spa": (0o755, 0),
            "run/xtables.lock": (0o600, 0),
            "etc/spa": (0o750, 0),
            "var/lib/spa-firewall": (0o700, 0),
            "etc/spa/clients.d": (0o700, spa),
            "var/lib/spa": (0o700, spa),
            "etc/spa/clients.d/file": (0o600, spa),
            "var/lib/spa/file": (0o600, spa),
        }
        facts = {name: (self.root / name).stat() for name in expected}
        self.assertEqual({name: (one.st_mode & 0o7777, one.st_uid) for name, one in facts.items()}, expected)
        self.assertFalse((self.root / "etc/spa/invites.d").exists(), "init makes it")


if __name__ == "__main__":
    unittest.main()
