"""Doors that no kernel closes: TCP Wrappers with Debian's sshd, and commands."""

from __future__ import annotations

import json
import shutil
import unittest

import harness
from harness import ADMIN, BIN, FAMILIES, FRIEND, FRIEND_TOO, GATEWAY, Done, Outside, Sshd, SystemTest, eventually, run

THEIRS = "# somebody's\r\nftpd: ALL\nin.telnetd: 10.0.0.0/8, \\\n  [fd77:9::]/32\n"
WRAPPERS = 'name = "ssh"\nbackends = ["tcp-wrappers"]\ndaemon = "sshd"\nports = ["tcp/22"]\n'


def setUpModule() -> None:
    harness.require("tcpdmatch", "ssh", "tcpd")
    if "libwrap.so.0" not in run("ldd", "/usr/sbin/sshd").stdout:
        raise unittest.SkipTest("sshd is not linked with libwrap")


class Wrapped(SystemTest):
    """sshd, the gateway and tcpdmatch see an /etc of their own: a copy, in which files can be replaced."""

    with_sshd = False
    keep_doors = True

    def setUp(self) -> None:
        super().setUp()
        self.etc = self.network.folder / "etc"
        shutil.copytree("/etc", self.etc, symlinks=True)
        shutil.copy(self.network.folder / "hosts", self.etc / "hosts")
        (self.etc / "hosts.deny").write_text("ALL: ALL\n")
        self.allow = self.etc / "hosts.allow"
        self.allow.write_bytes(THEIRS.encode())
        self.allow.chmod(0o604)
        self.configure(WRAPPERS)
        self.bind = {"/etc": self.etc}
        self.sshd = Sshd(self.network, self.bind)
        self.addCleanup(self.sshd.remove)
        self.alice = Outside.add(self.gateway, "alice")
        self.pattern = self.gateway.dir / "run" / "wrappers" / "sshd"

    def configure(self, *services: str) -> None:
        head = (
            f'[gateway]\nhost = "gateway.test"\n[lock-out]\nalways-allow = ["{ADMIN[4]}", "{ADMIN[6]}"]\n'
            f"keep-doors = {json.dumps(self.keep_doors)}\n"
        )
        self.gateway.configure(head + "".join(f"[[service]]\n{service}" for service in services))

    def start(self) -> None:
        self.gateway.start(bind=self.bind)

    def command(self, *arguments: str, check: bool = True) -> Done:
        words = [BIN / "spa-server", *arguments, "--dir", self.gateway.dir]
        return run(*self.gateway.host.argv(*words, bind=self.bind), check=check)

    def enters(self, family: int, source: str | None = None) -> bool:
        """Whether ssh from friend gets in."""
        options = ["-b", source] if source else []
        return self.friend.run(*self.sshd.command(GATEWAY[family], *options), "true", check=False).returncode == 0

    def matches(self, address: str) -> bool:
        """What tcpd's own judgement is."""
        said = run(*self.gateway.host.argv("tcpdmatch", "sshd", address, bind=self.bind)).stdout
        return "access:   granted" in said

    def lines(self) -> list[str]:
        return self.pattern.read_text().splitlines()

    def opens(self, *families: int, duration: int = 60) -> None:
        for family in families:
            self.alice.open(self.friend, GATEWAY[family], duration=duration, source=FRIEND[family])
            eventually(lambda family=family: self.is_listed(family), 5, "the line is there")

    def is_listed(self, family: int) -> bool:
        return any(FRIEND[family] in line for line in self.lines())


class Doors(Wrapped):
    def test_sshd_lets_in_who_has_knocked_until_the_end(self) -> None:
        self.start()
        for family in FAMILIES:
            self.assertFalse(self.enters(family), "refused before")
            self.assertTrue(self.enters(family, ADMIN[family]), "the way back in")
        self.opens(*FAMILIES)
        self.assertEqual(self.lines(), [FRIEND[4], ADMIN[4], f"[{FRIEND[6]}]/128", f"[{ADMIN[6]}]/128"])
        for family in FAMILIES:
            self.assertTrue(self.enters(family), "let in after the knock")
            self.assertTrue(self.matches(FRIEND[family]), "tcpd agrees")
            self.assertFalse(self.matches(FRIEND_TOO[family]), "nobody else")
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.is_listed(4), 5, "closed")
        self.assertFalse(self.enters(4))
        self.opens(4, 6, duration=3)
        eventually(lambda: not self.is_listed(4) and not self.is_listed(6), 8, "ended")
        for family in FAMILIES:
            self.assertFalse(self.enters(family), "refused after the end")
            self.assertFalse(self.matches(FRIEND[family]))

    def test_close_overdue_leaves_what_is_open_by_right(self) -> None:
        self.start()
        self.assertEqual(self.command("close-overdue").stdout, "the daemon runs and closes by itself\n")
        self.opens(4, duration=4)
        self.assertEqual(self.gateway.stop(), 0)
        self.assertTrue(self.is_listed(4), "doors are kept")
        self.assertRegex(self.command("close-overdue").stdout, r"^closed 0; 1 stay open: run it again at \S+Z")
        self.assertEqual(self.command("close-overdue", "--wait").stdout, "closed 1; nothing stays open\n")
        self.assertFalse(self.is_listed(4))

    def test_uninstall_warns_whom_hosts_deny_shuts_out(self) -> None:
        self.start()
        self.gateway.stop()
        self.assertIn("hosts.deny refuses sshd to everybody now", self.command("uninstall").stderr)
        self.assertFalse(self.pattern.parent.exists())

    def test_check_finds_what_makes_grants_idle(self) -> None:
        self.assertEqual(self.command("check").returncode, 0)
        (self.etc / "hosts.deny").write_text("ALL: PARANOID\n")
        self.allow.write_text("ALL: .example.net\n")
        codes = {f["code"] for f in json.loads(self.command("check", "--json", check=False).stdout)["findings"]}
        self.assertLessEqual({"not-refused", "lets-some-in"}, codes)

    def test_a_firewall_and_wrappers_for_one_service(self) -> None:
        both = WRAPPERS.replace('["tcp-wrappers"]', '["iptables", "tcp-wrappers"]') + "protect = true\n"
        self.configure(both)
        self.start()
        self.assert_shut()
        self.opens(*FAMILIES)
        for family in FAMILIES:
            self.assertTrue(self.enters(family))
        self.assertEqual(self.gateway.grants()[0]["backends"], ["iptables", "tcp-wrappers"])
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.is_listed(4), 5, "closed")
        self.assertNotIn(FRIEND[4], self.gateway.entries())


class Mounted(Wrapped):
    """hosts.allow is a mount of its own, as in a container: it can only be written over."""

    def test_doors_open_all_the_same(self) -> None:
        self.bind = {"/etc/hosts.allow": self.allow, "/etc/hosts.deny": self.etc / "hosts.deny"}
        self.start()
        self.opens(*FAMILIES)
        self.assertTrue(self.matches(FRIEND[6]))
        self.gateway.stop()
        self.command("uninstall")
        self.assertEqual(self.allow.read_bytes(), THEIRS.encode())


class Commands(SystemTest):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        folder = self.network.folder / "command"
        folder.mkdir()
        folder.chmod(0o777)
        self.seen, self.broken = folder / "seen", folder / "broken"
        script = folder / "script"
        script.write_text(
            f'#!/bin/sh\necho "$(id -un) $*" >> {self.seen}\necho said $1\n'
            f"test $1 = down || ! test -e {self.broken}\n"
        )
        script.chmod(0o755)
        self.network.folder.chmod(0o755)
        self.gateway.configure(
            f'[gateway]\nhost = "gateway.test"\n[[service]]\nname = "ssh"\nbackends = ["command"]\nuser = "nobody"\n'
            f'open = ["{script}", "up", "{{address}}", "{{family}}", "{{client}}", "{{service}}"]\n'
            f'close = ["{script}", "down", "{{address}}"]\n'
        )
        self.alice = Outside.add(self.gateway, "alice")

    def saw(self, *lines: str) -> None:
        """Exactly these runs so far."""
        text = "".join(f"nobody {line}\n" for line in lines)
        eventually(lambda: self.seen.exists() and self.seen.read_text() == text, 6, f"runs {lines}")

    def open(self, family: int = 4, duration: int = 60) -> None:
        self.alice.open(self.friend, GATEWAY[family], duration=duration, source=FRIEND[family])

    def test_open_once_close_at_the_end_and_at_a_stop(self) -> None:
        self.gateway.start()
        self.open(4, 2)
        self.saw(up4 := f"up {FRIEND[4]} 4 alice ssh", down4 := f"down {FRIEND[4]}")
        self.open(6)
        self.saw(up4, down4, up6 := f"up {FRIEND[6]} 6 alice ssh")
        self.open(6, 90)
        eventually(lambda: self.gateway.grants()[0]["remaining_s"] > 60, 5, "renewed")
        self.assertEqual(self.gateway.stop(), 0)
        self.saw(up4, down4, up6, f"down {FRIEND[6]}")
        self.assertIn("open said: said up", self.gateway.log())

    def test_a_failing_open_is_no_grant(self) -> None:
        self.gateway.start()
        self.broken.touch()
        self.open(4)
        eventually(lambda: self.gateway.refused("backend") == 1, 5, "refused")
        self.assertEqual(self.gateway.grants(), [])
        self.saw(f"up {FRIEND[4]} 4 alice ssh", f"down {FRIEND[4]}")
        self.broken.unlink()


if __name__ == "__main__":
    unittest.main()
