"""What `check` says of a real host, and of every example that is shipped."""

from __future__ import annotations

import socket
import unittest
from pathlib import Path
from typing import Any

import harness
import kinds
from harness import FAMILIES, GATEWAY, ROOT, STRANGER, SystemTest, eventually


def setUpModule() -> None:
    harness.require("nft", "ssh", "tcpd")
    if why := kinds.missing():
        raise unittest.SkipTest(why)


class Examples(SystemTest):
    """Each is good where it is meant for: a host that refuses sshd in hosts.deny and has the person's program."""

    def test_every_shipped_example_passes(self) -> None:
        programs = self.network.folder / "programs"
        programs.mkdir()
        (programs / "vpn-door").write_text("#!/bin/sh\n")
        (programs / "vpn-door").chmod(0o755)
        self.gateway.bind = {**kinds.Wrappers(self.network).bind, "/usr/local/sbin": programs}
        examples = sorted((ROOT / "docs" / "examples").glob("*.toml"))
        self.assertGreaterEqual(len(examples), 3)
        for example in examples:
            with self.subTest(example.name):
                answer = self.check(example)
                self.assertTrue(answer["ok"], answer["findings"])
                # What nobody listens on here, what no client may open yet, and the person's table that is not there.
                levels = {(finding["level"], finding["code"]) for finding in answer["findings"]}
                expected = {"nobody-listens", "nobodys-service", "no-named-chain"}
                self.assertLessEqual(levels, {("warning", code) for code in expected})

    def check(self, file: Path) -> dict[str, Any]:
        return harness.as_object(self.gateway.control("check", "--json", "--config", str(file), check=False).stdout)


class PastNftables(SystemTest):
    """What lets a stranger in although nftables hides the port: `check` says it, and it is so."""

    def setUp(self) -> None:
        super().setUp()
        self.kind = kinds.NamedTable(self.network)
        self.gateway.configure(self.kind.toml())

    def nft(self, script: str) -> None:
        self.gateway.host.run("nft", "-f", "-", stdin=script + "\n")

    def found(self) -> dict[str, str]:
        """Codes of what is said about the service, with the texts."""
        answer = self.gateway.control_json("check")
        self.assertTrue(answer["ok"], answer)
        about = ("reachable-before", "jump-not-first", "published-port", "not-asked", "nobody-listens")
        return {finding["code"]: finding["text"] for finding in answer["findings"] if finding["code"] in about}

    def strangers(self) -> list[str]:
        return [self.stranger.reach(GATEWAY[family]) for family in FAMILIES]

    def test_an_accept_before_the_jump_of_the_named_chain(self) -> None:
        self.nft("add chain inet filter web { tcp dport 22 accept; }")
        self.gateway.start()
        self.assertEqual((self.found(), self.strangers()), ({}, ["filtered", "filtered"]))
        for family, ours in (("ip", 4), ("ip6", 6)):
            with self.subTest(family=family):
                source = STRANGER[ours]
                self.nft(f"insert rule inet filter input {family} saddr {source} jump web")
                found = self.found()
                self.assertIn("in chain web of table inet filter lets it through before SPA", found["reachable-before"])
                self.assertIn("is rule 2 of chain input", found["jump-not-first"])
                self.assertTrue(self.stranger.is_open(GATEWAY[ours]), "it is so")
                self.gateway.restart()
                self.assertIn("reachable-before", self.found(), "its place is not fought over")
                # The remedy: a jump in front of it, of which the daemon leaves one.
                self.nft("insert rule inet filter input jump SPA")
                eventually(lambda: self.found() == {}, 5)
                self.assertEqual(self.strangers(), ["filtered", "filtered"])

    def test_an_accept_in_another_chain_or_table_lets_nobody_in(self) -> None:
        self.nft("add chain inet filter second { type filter hook input priority -20; tcp dport 22 accept; }")
        self.nft("table inet theirs { chain first { type filter hook input priority -30; accept; }; }")
        for named in (True, False):
            with self.subTest(named=named):
                toml = self.kind.toml()
                self.gateway.configure(toml if named else toml.replace(self.kind.more_toml, ""))
                self.gateway.start()
                self.assertEqual(self.found(), {})
                self.assertEqual(self.strangers(), ["filtered", "filtered"])
                self.gateway.stop()

    def test_a_named_chain_that_is_not_asked(self) -> None:
        self.nft("delete table inet filter; add table inet filter; add chain inet filter input")
        self.gateway.start()
        self.assertIn("is not asked about new connections", self.found()["not-asked"])
        self.assertEqual(self.strangers(), ["open", "open"], "it is so")

    def test_address_translation_goes_past_all_of_it(self) -> None:
        self.gateway.start()
        away = "type nat hook prerouting priority dstnat; tcp dport 22 redirect to :9;"
        self.nft(f"table inet away {{ chain pre {{ {away} }}; }}")
        self.assertIn("chain pre of table inet away sends it elsewhere", self.found()["published-port"])
        self.assertEqual(self.strangers(), ["closed", "closed"], "another port answers")

    def test_another_listener_than_was_meant(self) -> None:
        for family in FAMILIES:
            with self.subTest(family=family), self.gateway.host.socket(harness.inet(GATEWAY[family]), 1) as other:
                if family == 6:
                    other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                other.bind((GATEWAY[family], 2022))
                other.listen()
                self.gateway.configure(self.kind.toml().replace("tcp/22", "tcp/2200"))
                self.assertIn("tcp/2200 of service ssh is hidden, but no program", self.found()["nobody-listens"])
                self.gateway.configure(self.kind.toml().replace("tcp/22", "tcp/2022"))
                self.assertNotIn("nobody-listens", self.found())


if __name__ == "__main__":
    unittest.main()
