"""Somebody takes away what is ours: it comes back in the time that docs/backends.md gives, said once, no grant lost.

Single chains and sets are in test_firewall and test_nftables; here are the blunt commands and the reloads of others.
"""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable

import harness
import kinds
from harness import FAMILIES, FRIEND, FRIEND_TOO, GATEWAY, Outside, SystemTest, eventually

FLUSH = "iptables -F; ip6tables -F"
DELETE = f"{FLUSH}; iptables -X; ip6tables -X"
# What firewalld does at a reload: all of it goes, and its own comes back.
RELOAD = """flush ruleset
table inet firewalld {
    chain filter_INPUT { type filter hook input priority filter + 10; policy accept; ct state established accept; }
}
"""
# What `netfilter-persistent reload` does: iptables-restore empties the tables that it names.
PERSISTENT = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n-A INPUT -p tcp --dport 9 -j DROP\nCOMMIT\n"


def setUpModule() -> None:
    harness.require("nft", "ssh", "tcpd")
    if why := kinds.missing():
        raise unittest.SkipTest(why)


class Disturbed(SystemTest):
    def setUp(self) -> None:
        self.network = harness.Network()
        self.addCleanup(self.network.remove)
        self.friend = self.network.friend

    def on(self, kind_of: type[kinds.Kind]) -> kinds.Kind:
        """A host of that kind with open doors for both families."""
        self.kind = kind_of(self.network)
        self.gateway = self.kind.make_gateway()
        self.addCleanup(self.gateway.remove)
        self.addCleanup(self.show_log, self.gateway)
        self.addCleanup(self.kind.make_sshd().remove)
        alice = Outside.add(self.gateway, "alice")
        self.gateway.start()
        for family in FAMILIES:
            alice.open(self.friend, GATEWAY[family], duration=300, source=FRIEND[family])
        eventually(self.is_held, 5, "both doors are held open")
        return self.kind

    def is_held(self) -> bool:
        return all(self.kind.held(family) for family in FAMILIES)

    def put_back(self) -> list[str]:
        marks = ("put back", "opened again")
        return [line.split("Z ", 1)[-1] for line in self.gateway.log().splitlines() if any(m in line for m in marks)]

    def disturb(self, seconds: float, how: Callable[[], object]) -> None:
        """After `how` all is as before, within `seconds` and one more for the look itself on a busy machine."""
        before, begun = len(self.put_back()), time.monotonic()
        how()
        eventually(lambda: len(self.put_back()) > before, seconds + 1, "said")
        eventually(self.is_held, max(0.1, begun + seconds + 1 - time.monotonic()), "no grant is lost")
        took = time.monotonic() - begun
        for family in FAMILIES:
            self.assertEqual(self.kind.held(family), [FRIEND[family]])
            self.assertTrue(self.greets(FRIEND, family))
            self.assertFalse(self.greets(FRIEND_TOO, family), "hidden again")
        left = [grant["remaining_s"] for grant in self.gateway.grants()]
        self.assertEqual((len(left), min(left) > 200), (2, True), left)
        said = self.put_back()[before:]
        self.assertEqual(sorted(set(said)), sorted(said), f"once ({took:.1f} s)")

    def greets(self, source: dict[int, str], family: int) -> bool:
        seconds = 5 if source is FRIEND else 0.6
        return harness.is_greeted(self.friend, GATEWAY[family], source[family], seconds)

    def assert_quiet(self) -> None:
        """Two looks more, and nothing is said again."""
        before = len(self.put_back())
        harness.never(lambda: len(self.put_back()) > before, 4.5, "said again")

    def sh(self, script: str) -> Callable[[], object]:
        return lambda: self.kind.sh(script)

    def feed(self, text: str, *tools: str) -> Callable[[], object]:
        return lambda: [self.kind.host.run(*tool.split(), stdin=text) for tool in tools]

    def test_iptables(self) -> None:
        self.on(kinds.Ipset)
        self.disturb(1, self.sh(FLUSH))
        self.disturb(1, self.sh(DELETE))
        self.disturb(2, self.sh(f"{DELETE}; for set in $(ipset list -n); do ipset destroy $set || true; done"))
        self.disturb(1, self.feed(PERSISTENT, "iptables-restore", "ip6tables-restore"))
        self.disturb(1, self.feed(RELOAD, "nft -f -"))
        self.assert_quiet()

    def test_iptables_without_ipset_and_without_events(self) -> None:
        self.on(kinds.Rules)
        self.disturb(15, self.sh(DELETE))

    def test_nftables(self) -> None:
        self.on(kinds.Nftables)
        self.disturb(1, self.feed("flush ruleset\n", "nft -f -"))
        self.disturb(1, self.feed(RELOAD, "nft -f -"))
        self.assert_quiet()

    def test_nftables_in_a_table_that_is_reloaded(self) -> None:
        self.on(kinds.NamedTable)
        self.disturb(1, self.feed(f"flush ruleset\n{kinds.HOST_NFT}", "nft -f -"))
        self.disturb(1, self.feed("flush chain inet filter input\n", "nft -f -"))
        self.assert_quiet()

    def test_tcp_wrappers(self) -> None:
        kind = self.on(kinds.Wrappers)
        assert isinstance(kind, kinds.Wrappers)
        allow = kind.etc / "hosts.allow"
        self.disturb(2, lambda: allow.write_bytes(kind.allow.encode()))
        self.disturb(2, allow.unlink)
        self.disturb(2, lambda: (kind.dir / "run" / "wrappers" / "sshd").write_text("ALL\n"))
        self.assert_quiet()


if __name__ == "__main__":
    unittest.main()
