"""What the nftables backend promises: its own table only, put back when it is gone, and nobody cut off."""

from __future__ import annotations

import re
import time
import unittest

import harness
from harness import ADMIN, FAMILIES, FRIEND, GATEWAY, KNOCK_PORT, Outside, Service, SystemTest, eventually, server_toml

# As in nftables' examples: everything is dropped that is not let in.
HOST = """
table inet filter {
    set blocklist { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto ipv6-icmp accept
        tcp dport 9 accept
    }
}
table ip nat { chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/8 masquerade; }; }
"""
NAMED = '[nftables]\ntable = "inet filter"\nchain = "input"\n'


def setUpModule() -> None:
    harness.require("nft")
    if harness.BACKEND != "nftables":
        raise unittest.SkipTest(f"about nftables; this run is about {harness.BACKEND}")


class Nftables(SystemTest):
    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice")

    def nft(self, script: str) -> str:
        return self.gateway.host.run("nft", "-f", "-", stdin=script + "\n").stdout

    def listed(self) -> str:
        """Everybody's rules, without what changes by itself and without empty lines."""
        text = self.gateway.host.run("nft", "-s", "list", "ruleset").stdout
        return re.sub(r"\n+", "\n", re.sub(r" expires \S+?(?=[, ])", "", text))

    def not_ours(self) -> str:
        """Its lines but ours: the own table, chain SPA and what jumps there, sets of ours."""
        text = re.sub(r"^table inet spa \{.*?^\}\n", "", self.listed(), flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"^\t(?:chain SPA|set spa[46]-\S+) \{.*?^\t\}\n", "", text, flags=re.MULTILINE | re.DOTALL)
        return re.sub(r"^\t\tjump SPA .*\n", "", text, flags=re.MULTILINE)


class Repair(Nftables):
    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()
        for family in FAMILIES:
            self.alice.open(self.friend, GATEWAY[family], duration=300)
            self.assert_opens(self.friend, GATEWAY[family])

    def assert_mended(self, seconds: float) -> None:
        # A second more than promised, for the look itself on a busy machine.
        start = time.monotonic()
        eventually(lambda: "drop" in self.gateway.rules() and "notrack" in self.gateway.rules(), seconds + 1)
        eventually(lambda: set(self.gateway.entries()) == set(FRIEND.values()), seconds + 1, "grants put back")
        self.took = time.monotonic() - start
        for address, left in self.gateway.entries().items():
            self.assertTrue(200 < left <= 300, f"{address}: {left} s")
        self.assertEqual(len(self.gateway.grants()), 2)
        for family in FAMILIES:
            self.assertTrue(self.friend.is_open(GATEWAY[family]))
            self.assertTrue(self.friend.is_open(GATEWAY[family], source=ADMIN[family]))
        self.assert_shut(self.stranger)

    def test_ruleset_flushed(self) -> None:
        self.nft("flush ruleset")
        self.assert_mended(1)
        print(f"put back {self.took:.2f} s after nft flush ruleset")

    def test_table_deleted(self) -> None:
        self.nft("delete table inet spa")
        self.assert_mended(1)

    def test_chain_flushed(self) -> None:
        before = len(self.gateway.log())
        self.nft("flush chain inet spa SPA")
        self.assert_mended(1)
        eventually(lambda: "rules of chain SPA in inet spa" in self.gateway.log()[before:], 5, "a line in the log")

    def test_sets_flushed(self) -> None:
        self.nft("flush set inet spa spa4-ssh; flush set inet spa spa6-ssh; flush set inet spa spa4-allow")
        self.assert_mended(2)
        eventually(lambda: f"elements = {{ {ADMIN[4]} }}" in self.gateway.rules(), 3)


class Neighbours(Nftables):
    def test_a_days_life_in_miniature(self) -> None:
        for named in ("", NAMED):
            with self.subTest(named=named):
                self.nft("flush ruleset\n" + HOST.replace("policy drop", "policy drop" if named else "policy accept"))
                before = self.listed()
                self.gateway.configure(server_toml() + named)
                self.gateway.control("protect")
                self.assertEqual(self.not_ours(), before, "after protect")
                self.gateway.start()
                for number in range(49):
                    self.alice.open(self.friend, GATEWAY[4], address=f"192.0.2.{number + 1}")
                eventually(lambda: self.gateway.status()["accepted"]["open"] == 49)
                self.alice.open(self.friend, GATEWAY[6])
                self.assert_opens(self.friend, GATEWAY[6])
                self.assertEqual(self.not_ours(), before, "after knocks")
                self.gateway.configure(server_toml(Service(duration="40s"), Service("web", ["tcp/8080"])) + named)
                self.gateway.reload()
                eventually(lambda: "spa4-web" in self.listed(), 5, "reloaded")
                self.assertEqual(self.not_ours(), before, "after a reload")
                self.nft(f"flush chain inet {'filter' if named else 'spa'} SPA")
                eventually(lambda: "tcp dport 8080 drop" in self.listed(), 5)
                self.gateway.kill9()
                self.gateway.start()
                self.gateway.stop()
                self.assertEqual(self.not_ours(), before, "after kill -9, a start and a stop")
                self.gateway.control("uninstall")
                self.assertEqual(self.listed(), before, "after uninstall")
                self.gateway.control("uninstall")

    def test_another_backend_leaves_nothing_of_the_first(self) -> None:
        self.gateway.start()
        self.gateway.configure(server_toml(Service(backend="iptables")))
        self.gateway.reload()
        eventually(lambda: "table inet spa" not in self.listed(), 5)
        self.alice.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])
        self.gateway.configure(server_toml())
        self.gateway.reload()
        eventually(lambda: "SPA" not in self.gateway.host.run("iptables-save").stdout, 5)
        self.assert_opens(self.friend, GATEWAY[4])


class LaterDrop(Nftables):
    def test_check_names_the_chain_and_the_remedy_opens_the_door(self) -> None:
        self.nft(HOST)
        found = self.gateway.control_json("check")
        (finding,) = (found for found in found["findings"] if found["code"] == "later-drop" and "ssh" in found["text"])
        self.assertEqual(
            finding["text"],
            "service ssh: what a grant lets in to tcp/22 is dropped all the same by chain input of table inet filter "
            "(policy drop)",
        )
        self.assertEqual(finding["try"], '[nftables] with table = "inet filter" and chain = "input"')
        self.nft(f"insert rule inet filter input udp dport {KNOCK_PORT} counter drop")
        self.gateway.start()
        self.alice.open(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.entries(), 3)
        self.assert_shut()
        self.gateway.configure(server_toml() + NAMED)
        self.assertNotIn("later-drop", self.gateway.control("check").stdout)
        self.gateway.reload()
        self.assert_opens(self.friend, GATEWAY[4])
        self.assertTrue(self.friend.is_open(GATEWAY[6], source=ADMIN[6]))


if __name__ == "__main__":
    unittest.main()
