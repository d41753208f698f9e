"""Nothing of other people's is ever changed: a day's life in miniature beside their rules, sets, lines and files.

The firewalls alone have theirs in test_firewall and test_nftables; here are TCP Wrappers, commands, and all of them on
one host.
"""

from __future__ import annotations

import hashlib
import os
import re
import unittest
from collections.abc import Callable
from pathlib import Path

import harness
import kinds
from harness import FRIEND, GATEWAY, HOST_NAME, KNOCK_PORT, Network, Outside, SystemTest, eventually

KNOCKS = 50
BLOCK = re.compile(rb"^# BEGIN spa-server.*?^# END spa-server\n", re.MULTILINE | re.DOTALL)
OURS = re.compile(rf"\bSPA\b|\bspa[46]-|--dport {KNOCK_PORT}\b|dports? .*{KNOCK_PORT}")
GRANTED = re.compile(rf"^-A MINE -s (?:10\.77\.9\.\d+|{re.escape(FRIEND[6])})/\d+ -j ACCEPT$")
FOREIGN = (
    "for t in iptables ip6tables; do"
    " $t -N THEIRS; $t -A THEIRS -p tcp --dport 8 -m comment --comment 'not yours' -j RETURN;"
    " $t -A INPUT -p tcp --dport 9 -j DROP; $t -A INPUT -j THEIRS; $t -A FORWARD -p udp -j THEIRS;"
    " $t -t nat -A POSTROUTING -p tcp --dport 7 -j MASQUERADE; $t -t mangle -A PREROUTING -p udp -j ACCEPT;"
    " $t -t raw -A PREROUTING -p udp --dport 6 -j CT --notrack;"
    " done;"
    " ipset create mine hash:ip timeout 0; ipset add mine 192.0.2.1;"
    " nft add table inet mine; nft add chain inet mine c '{ type filter hook input priority 5; }';"
    " nft add rule inet mine c tcp dport 5 counter drop"
)


def setUpModule() -> None:
    harness.require("nft", "ssh", "tcpd")
    if why := kinds.missing():
        raise unittest.SkipTest(why)


class Mixed(kinds.Wrappers, kinds.Command):
    """Four services, one by each backend, on one host."""

    def prepare(self) -> None:
        kinds.Wrappers.prepare(self)
        binds = self.bind
        kinds.Command.prepare(self)
        self.bind, self.command = binds, self.service

    def toml(self, name: str = "ssh", keep_doors: bool = True, more: str = "") -> str:
        services = {
            "ssh": '"iptables", "tcp-wrappers"]\ndaemon = "sshd"\nports = ["tcp/22"]\nprotect = true\n',
            "web": '"nftables"]\nports = ["tcp/8080"]\nprotect = true\n',
            "vpn": f'"command"]\n{self.command}',
        }
        head = f'[gateway]\nhost = "{HOST_NAME}"\n[lock-out]\nalways-allow = ["192.0.2.0/28"]\n'
        return head + "".join(
            f'[[service]]\nname = "{name}"\n{more}backends = [{rest}' for name, rest in services.items()
        )


class Neighbours(SystemTest):
    def on(self, kind_of: type[kinds.Kind]) -> kinds.Kind:
        """A host of that kind, with other people's things all over it."""
        self.kind = kind_of(self.network)
        self.kind.sh(FOREIGN)
        if isinstance(self.kind, kinds.Wrappers):
            os.chown(self.kind.etc / "hosts.allow", 12, 34)
        self.gateway = self.kind.make_gateway()
        self.addCleanup(self.gateway.remove)
        self.addCleanup(self.show_log, self.gateway)
        return self.kind

    def setUp(self) -> None:
        self.network = Network()
        self.addCleanup(self.network.remove)
        self.friend = self.network.friend

    # What stands there

    def everything(self, seen_as: Callable[[bytes], bytes] = bytes) -> list[str]:
        """Every rule, set and file, but for what changes by itself; files are compared by what they are seen as."""
        saved = self.kind.sh("iptables-save; ip6tables-save; ipset save; nft list tables; nft list table inet mine")
        saved = re.sub(r"^#.*\n", "", saved, flags=re.MULTILINE)
        saved = re.sub(r"\[\d+:\d+\]| (?:initval|timeout|packets|bytes) \S+", "", saved)
        etc = getattr(self.kind, "etc", None)
        files = sorted(etc.rglob("*")) if etc else []
        return [*saved.splitlines(), *(fact(path, seen_as) for path in files)]

    def not_ours(self) -> list[str]:
        """Its lines but ours, the doors of the person's own script, and the block in hosts.allow."""
        lines = self.everything(lambda content: BLOCK.sub(b"", content))
        return [
            line
            for line in lines
            if not (OURS.search(line) or GRANTED.match(line)) or line.startswith("file ")
            if line != "table inet spa"
        ]

    # The day

    def a_day(self, services: list[str]) -> None:
        before, others = self.everything(), self.not_ours()
        self.gateway.control("protect")
        self.assertEqual(self.not_ours(), others, "after protect")
        alice = Outside.add(self.gateway, "alice", services)
        self.gateway.start()
        for number in range(KNOCKS - 1):
            alice.open(self.friend, GATEWAY[4], *services, address=f"10.77.9.{number + 1}", duration=600)
        alice.open(self.friend, GATEWAY[6], *services, duration=600)
        eventually(lambda: len(self.gateway.grants()) == KNOCKS * len(services), 20, "all knocks judged")
        self.assertEqual(self.not_ours(), others, f"after {KNOCKS} knocks")
        self.assertNotEqual(self.everything(), before, "something of ours is there")
        self.gateway.configure(self.kind.toml(more='duration = "40s"\n'))
        self.gateway.reload()
        eventually(self.is_current, 5, "reloaded")
        self.assertEqual(self.not_ours(), others, "after a reload")
        self.flush()
        self.assertEqual(self.not_ours(), others, "after a flush")
        self.gateway.kill9()
        self.gateway.start()
        self.assertEqual(self.not_ours(), others, "after kill -9 and a start")
        self.gateway.stop()
        self.assertEqual(self.not_ours(), others, "after a stop")
        self.gateway.control("uninstall")
        self.assertEqual(self.everything(), before, "after uninstall")
        self.gateway.control("uninstall")
        self.assertEqual(self.everything(), before, "after a second one")

    def is_current(self) -> bool:
        return str(self.gateway.status()["config"]["state"]) == "current"

    def flush(self) -> None:
        """Somebody takes out what is ours; it comes back."""
        backends = {backend["name"] for backend in self.gateway.status()["backends"]}
        if "tcp-wrappers" in backends:
            allow = Path(self.kind.etc) / "hosts.allow"
            whole = allow.read_bytes()
            allow.write_bytes(BLOCK.sub(b"", whole))
            eventually(lambda: allow.read_bytes() == whole, 5, "the block is back")
        if "iptables" in backends:
            self.kind.sh("iptables -F SPA; ip6tables -F SPA; ipset flush spa4-ssh")
            eventually(lambda: "-A SPA -s 192.0.2.0/28" in "\n".join(self.everything()), 5, "the rules are back")
        if "nftables" in backends:
            self.kind.sh("nft delete table inet spa")
            eventually(lambda: "table inet spa" in self.everything(), 5, "the table is back")

    def test_tcp_wrappers(self) -> None:
        self.on(kinds.Wrappers)
        self.a_day(["ssh"])

    def test_commands(self) -> None:
        self.on(kinds.Command)
        self.a_day(["ssh"])

    def test_all_of_them_on_one_host(self) -> None:
        self.on(Mixed)
        self.a_day(["ssh", "web", "vpn"])


def fact(path: Path, seen_as: Callable[[bytes], bytes]) -> str:
    """One line for a file: its mode, its owner and what it holds."""
    facts = path.lstat()
    head = f"file {path} {facts.st_mode:o} {facts.st_uid} {facts.st_gid}"
    if path.is_symlink():
        return f"{head} -> {path.readlink()}"
    if not path.is_file():
        return head
    return f"{head} {hashlib.sha256(seen_as(path.read_bytes())).hexdigest()}"


if __name__ == "__main__":
    unittest.main()
