"""The life of the packages on a Debian with systemd as pid 1: installed, used, upgraded, removed, purged.

Run by scripts/package-test.sh, which makes the root (SPA_ROOT) and the packages of two versions (SPA_OLD, SPA_NEW).
One machine goes through all of it, in the order of the tests' names.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import sys
import time
import unittest
from pathlib import Path

from machine import Machine

from harness import ADMIN, FAMILIES, GATEWAY, Network, eventually

ROOT = Path(os.environ["SPA_ROOT"])
OLD, NEW = (sorted(Path(os.environ[name]).glob("*.deb")) for name in ("SPA_OLD", "SPA_NEW"))
UNITS = ("spa-server.service", "spa-protect.service", "spa-close-overdue.service")
BACK_WITHIN_S = 2.0
# capabilities(7), as CapabilityBoundingSet= of the units leaves them: chown, dac_override, fowner, kill, setgid, setuid,
# setpcap, net_admin.
CAP_NET_RAW = 13
BOUNDING = {0, 1, 3, 5, 6, 7, 8, 10, 12, CAP_NET_RAW}
# What the system itself keeps: logs, caches, the package manager's own, what was mounted.
NOT_OURS = re.compile(
    r"(var/log|var/cache|var/lib/(dpkg|apt|systemd|dbus|man-db|ucf)|var/tmp|run|tmp|proc|sys|dev|root|packages)(/|$)"
    r"|etc/((passwd|group|shadow|gshadow|subuid|subgid)-|\.pwd\.lock|machine-id|ld\.so\.cache|resolv\.conf|hostname)$"
    r"|etc/.*\.dpkg-(old|new)$"
)


def listing() -> dict[str, str]:
    """Every file of the root: kind, mode, owner, and what is in it where it is small."""
    found = {}
    for folder, folders, files in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not NOT_OURS.match(str(inside / name))]
        for name in [*folders, *files]:
            path = Path(folder) / name
            if not NOT_OURS.match(str(inside / name)):
                found[str(inside / name)] = describe(path)
    return found


def describe(path: Path) -> str:
    facts = path.lstat()
    text = f"{stat.filemode(facts.st_mode)} {facts.st_uid}:{facts.st_gid}"
    if path.is_symlink():
        return f"{text} -> {os.readlink(path)}"
    return f"{text} {path.read_bytes()!r}" if path.is_file() and facts.st_size < 4096 else text


class Life(unittest.TestCase):
    """One machine, from before the installation to after the purge."""

    longMessage = True
    network: Network
    machine: Machine
    before: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.network = Network()
        cls.addClassCleanup(cls.network.remove)
        Machine.prepare(ROOT)
        shutil.rmtree(ROOT / "packages", ignore_errors=True)
        for name, packages in (("old", OLD), ("new", NEW)):
            (ROOT / "packages" / name).mkdir(parents=True)
            for package in packages:
                shutil.copy(package, ROOT / "packages" / name)
        cls.machine = Machine(ROOT, cls.network)
        cls.machine.boot()
        cls.addClassCleanup(lambda: cls.machine.power_off())
        cls.before = listing()

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        # Each step stands on the ones before.
        if result and (result.failures or result.errors):
            self.skipTest = lambda reason: None  # type: ignore[method-assign]
            result.startTest(self)
            result.addSkip(self, "a step before this one failed")
            result.stopTest(self)
            return result
        return super().run(result)

    def tearDown(self) -> None:
        outcome = getattr(self, "_outcome", None)
        if outcome and not outcome.success:
            print(self.sh("journalctl --no-pager -n 120 -u 'spa-*'", check=False), file=sys.stderr)

    # What is asked of the machine

    def sh(self, command: str, check: bool = True) -> str:
        done = self.machine.run("sh", "-c", command, check=check)
        return done.stdout + done.stderr

    def install(self, version: str) -> str:
        return self.sh(f"dpkg -i /packages/{version}/*.deb")

    def states(self, verb: str) -> list[str]:
        return self.sh(f"systemctl {verb} {' '.join(UNITS)}", check=False).split()

    def shown(self, name: str) -> str:
        return self.sh(f"systemctl show spa-server -p {name} --value").strip()

    def wait_for_another(self, pid: int, seconds: float) -> None:
        """Until another daemon than this one is ready."""

        def is_back() -> bool:
            lines = self.sh("systemctl show spa-server -p SubState,MainPID").split()
            shown = dict(line.split("=", 1) for line in lines)
            return shown["SubState"] == "running" and int(shown["MainPID"]) not in (0, pid)

        eventually(is_back, seconds, "back")

    def grants(self) -> str:
        return self.sh("spa-server grants")

    def rules(self) -> str:
        return self.sh("iptables-save; ip6tables-save; ipset list -n; nft list ruleset")

    def friend_gets_in(self, family: int = 4) -> bool:
        return self.network.friend.is_open(GATEWAY[family])

    def assert_hidden(self) -> None:
        for family in FAMILIES:
            self.assertEqual(self.network.stranger.reach(GATEWAY[family]), "filtered")
            self.assertTrue(self.network.friend.is_open(GATEWAY[family], source=ADMIN[family]), "always-allow")

    def knock(self) -> None:
        self.machine.client("open", "10.77.1.1", "ssh", "--for", "10m", "--wait")

    # Its life

    def test_01_an_installation_enables_starts_and_hides_nothing(self) -> None:
        self.sh("systemctl start ssh")
        rules = self.rules()
        self.install("old")
        self.assertEqual(self.states("is-enabled"), ["disabled"] * 3)
        self.assertEqual(self.states("is-active"), ["inactive"] * 3)
        self.assertEqual(self.rules(), rules)
        for family in FAMILIES:
            self.assertTrue(self.network.stranger.is_open(GATEWAY[family]))

    def test_02_users_and_folders_are_there_with_their_modes(self) -> None:
        folders = ("etc/spa 750 root:spa", "var/lib/spa-firewall 700 root:root", "run/spa 755 root:root")
        self.assert_modes(*folders)
        self.assertIn("/usr/sbin/nologin", self.sh("getent passwd spa"))
        self.sh("getent group spa-admin")

    def assert_modes(self, *expected: str) -> None:
        names = " ".join(line.split()[0] for line in expected)
        self.assertEqual(self.sh(f"cd / && stat -c '%n %a %U:%G' {names}").splitlines(), list(expected))

    def test_03_without_a_configuration_a_start_is_no_failure_and_does_nothing(self) -> None:
        self.sh("systemctl start spa-server")
        self.assertEqual(self.states("is-active"), ["inactive"] * 3)
        self.assertEqual(self.sh("systemctl --failed --no-legend -q"), "")

    def test_04_pages_and_completions_are_there(self) -> None:
        for page in ("8 spa-server", "8 spa-server-init", "8 spa-keys-invite", "1 spa-client-open", "5 server.toml"):
            self.sh(f"test -s $(man -w {page})")
        for shell, name in (("bash", "complete -p spa-server"), ("bash", "complete -p spa-client")):
            program = name.split()[-1]
            self.sh(f"{shell} -c '. /usr/share/bash-completion/completions/{program} && {name}'")

    def test_05_it_is_set_up_and_enabled_as_a_whole(self) -> None:
        allow = " ".join(f"--always-allow {ADMIN[family]}" for family in FAMILIES)
        self.sh(f"spa-server init --host 10.77.1.1 --service ssh=tcp/22 {allow}")
        own = [f"{name} 700 spa:root" for name in ("etc/spa/clients.d", "etc/spa/invites.d", "var/lib/spa")]
        self.assert_modes("etc/spa 750 root:spa", "etc/spa/gateway.key 600 spa:root", *own)
        self.sh("spa-server check")
        self.sh("systemctl enable --now spa-server")
        self.assertEqual(self.states("is-enabled"), ["enabled"] * 3)
        self.assertEqual(self.states("is-active")[:2], ["active", "active"])
        self.assertEqual((self.shown("SubState"), self.shown("NRestarts")), ("running", "0"))
        self.assert_hidden()

    def test_06_a_device_enrolls_and_gets_in(self) -> None:
        invite = self.sh("spa-keys invite anna --services ssh 2>/dev/null").strip()
        self.assertEqual(self.network.friend.reach(GATEWAY[4]), "filtered")
        self.machine.client("enroll", invite)
        self.knock()
        self.assertTrue(self.friend_gets_in())
        self.assertIn("anna", self.grants())
        eventually(lambda: self.shown("StatusText").startswith("open doors: 1"), 10, "the manager's line")

    def test_07_nothing_that_it_wanted_was_refused_by_the_sandbox(self) -> None:
        journal = self.sh("journalctl --no-pager -u 'spa-*'")
        for word in ("Read-only file system", "Operation not permitted", "Permission denied", "SIGSYS", "panicked"):
            self.assertNotIn(word, journal)
        self.assertNotEqual(self.sh('spa-server status --json | grep -o \'"record":{"state":"ok"\''), "")

    def test_08_its_parts_have_the_rights_they_should_have(self) -> None:
        def facts(pid: str) -> dict[str, str]:
            lines = self.sh(f"cat /proc/{pid}/status").splitlines()
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

        main = self.shown("MainPID")
        packets = facts(main)
        spa = self.sh("id -u spa").strip()
        self.assertEqual(set(packets["Uid"].split()), {spa})
        self.assertEqual({packets[name] for name in ("CapEff", "CapPrm")}, {f"{1 << CAP_NET_RAW:016x}"})
        self.assertEqual((packets["NoNewPrivs"], packets["Seccomp"]), ("1", "2"))
        (child,) = self.sh(f"cat /proc/{main}/task/{main}/children").split()
        firewall = facts(child)
        self.assertEqual(set(firewall["Uid"].split()), {"0"})
        allowed = sum(1 << number for number in BOUNDING)
        self.assertEqual(int(firewall["CapBnd"], 16) & ~allowed, 0)
        self.assertEqual((firewall["NoNewPrivs"], firewall["Seccomp"]), ("1", "2"))
        self.assertIn("Read-only", self.sh(f"nsenter -t {child} -m touch /usr/sbin/x", check=False))

    def test_09_a_reload_says_what_is_wrong_and_leaves_the_old_in_force(self) -> None:
        self.sh("systemctl reload spa-server")
        self.sh("cp -p /etc/spa/server.toml /root/good.toml && echo nonsense >>/etc/spa/server.toml")
        self.assertNotEqual(self.machine.run("systemctl", "reload", "spa-server", check=False).returncode, 0)
        self.assertEqual(self.states("is-active")[0], "active")
        self.assertIn("anna", self.grants())

    def test_10_an_upgrade_with_a_bad_configuration_leaves_the_old_daemon_running(self) -> None:
        pid = self.shown("MainPID")
        said = self.install("new")
        self.assertIn("refuses this configuration", said)
        self.assertEqual(self.shown("MainPID"), pid)
        self.assertTrue(self.friend_gets_in())
        self.sh("cp -p /root/good.toml /etc/spa/server.toml && dpkg -i /packages/old/*.deb")

    def test_11_an_upgrade_takes_over_and_keeps_the_open_door(self) -> None:
        self.knock()
        pid = self.shown("MainPID")
        self.install("new")
        self.assertNotEqual(self.shown("MainPID"), pid)
        self.assertEqual(self.states("is-active")[:2], ["active", "active"])
        self.assertIn("anna", self.grants())
        self.assertTrue(self.friend_gets_in())
        self.assert_hidden()

    def test_12_a_daemon_that_is_killed_is_back_in_time_with_its_doors(self) -> None:
        for _ in range(2):
            pid = int(self.shown("MainPID"))
            begun = time.monotonic()
            self.sh(f"kill -9 {pid}")
            self.wait_for_another(pid, 10)
            self.assertLess(time.monotonic() - begun, BACK_WITHIN_S)
            self.assertIn("anna", self.grants())

    def test_13_a_frozen_daemon_is_noticed(self) -> None:
        folder = "/run/systemd/system/spa-server.service.d"
        self.sh(f"mkdir -p {folder} && printf '[Service]\\nWatchdogSec=2\\n' >{folder}/test.conf")
        self.sh("systemctl daemon-reload && systemctl restart spa-server")
        pid = int(self.shown("MainPID"))
        self.sh(f"kill -{int(signal.SIGSTOP)} {pid}")
        self.wait_for_another(pid, 15)
        self.assertIn("watchdog", self.sh("journalctl --no-pager -u spa-server -n 30").lower())
        self.sh(f"rm -r {folder} && systemctl daemon-reload && systemctl restart spa-server")

    def test_14_a_stop_leaves_hidden_what_is_hidden_and_closes_in_the_background(self) -> None:
        self.sh("systemctl stop spa-server")
        self.assertEqual(self.sh("systemctl --failed --no-legend -q"), "")
        self.assert_hidden()
        self.assertTrue(self.friend_gets_in(), "keep-doors")

    def test_15_a_boot_hides_before_the_network_and_opens_nothing(self) -> None:
        self.machine.power_off()
        # The machine's network outlives its power-off here; a real one's rules do not.
        for tool in ("iptables", "ip6tables"):
            self.network.gateway.run("sh", "-c", f"{tool} -F && {tool} -X && {tool} -t raw -F && {tool} -t raw -X")
        self.network.gateway.run("ipset", "destroy")
        self.machine.boot()
        self.assertEqual(self.states("is-active")[:2], ["active", "active"])
        self.assertEqual(self.sh("systemctl --failed --no-legend -q"), "")
        self.sh("systemctl start ssh")
        self.assert_hidden()
        # No time of another boot counts here, but this machine's boot goes on: the door is put back.
        self.assertIn("anna", self.grants())
        order = self.sh("systemctl show spa-protect -p Before --value").split()
        self.assertIn("network-pre.target", order)
        self.assertNotIn("ordering cycle", self.sh("journalctl --no-pager -b"))
        self.assertEqual(self.sh("systemctl is-active spa-close-overdue", check=False).strip(), "inactive")

    def test_16_the_hidden_port_is_seen_again_after_a_removal(self) -> None:
        rules = "iptables-save; ip6tables-save; ipset list -n"
        said = self.sh("dpkg -r spa-server spa-client")
        self.assertIn("as visible now", said)
        for family in FAMILIES:
            self.assertTrue(self.network.stranger.is_open(GATEWAY[family]), "nobody is shut out")
        self.assertNotIn("SPA", self.sh(rules))
        self.assertNotIn("spa4", self.sh(rules))
        self.assertEqual(self.sh("ls /etc/systemd/system/*.wants /etc/systemd/system | grep spa || true"), "")
        self.sh("test -e /etc/spa/gateway.key -a -e /var/lib/spa/record.redb")

    def test_17_what_was_removed_comes_back_with_its_clients(self) -> None:
        self.install("new")
        self.assertEqual(self.states("is-enabled"), ["disabled"] * 3)
        self.assertEqual(self.states("is-active"), ["inactive"] * 3)
        self.sh("systemctl enable --now spa-server")
        self.knock()
        self.assert_hidden()

    def test_18_a_purge_leaves_nothing(self) -> None:
        self.sh("dpkg -P spa-server spa-client")
        for family in FAMILIES:
            self.assertTrue(self.network.stranger.is_open(GATEWAY[family]))
        self.assertEqual(self.sh("getent passwd spa; getent group spa spa-admin", check=False), "")
        self.sh("rm -f /root/good.toml; test ! -e /run/spa")
        self.machine.power_off()
        after = listing()
        left = {path: (self.before.get(path), after.get(path)) for path in self.before.keys() ^ after.keys()}
        changed = {path for path in self.before.keys() & after.keys() if self.before[path] != after[path]}
        self.assertEqual((left, changed), ({}, set()))


if __name__ == "__main__":
    unittest.main(verbosity=2)
