"""The public address, found by STUN: two servers must agree."""

from __future__ import annotations

import time
import unittest

import harness
from device import Device, StunServer
from harness import FRIEND, GATEWAY, HOST_NAME, Done, as_object, eventually

SERVERS = {4: ["10.77.1.21", "10.77.1.22", "10.77.1.23"], 6: ["fd77:1::21", "fd77:1::22"]}
ELSEWHERE = "192.0.2.66"


def setUpModule() -> None:
    harness.require("ssh-keygen")


class Resolve(Device):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.enroll("alice", "ssh", "--no-proof")
        self.add_to_gateway(*SERVERS[4], *SERVERS[6])

    def serve(self, address: str, says: str | None = None, manner: str = "honest") -> StunServer:
        server = StunServer(self.network.gateway, address, says, manner)
        self.addCleanup(server.end)
        return server

    def resolve(self, *servers: str, check: bool = True) -> Done:
        named = [word for server in servers for word in ("--stun", server)]
        return self.client("open", HOST_NAME, "ssh", "--once", "--resolve", *named, "--json", check=check)

    def test_two_that_agree(self) -> None:
        servers = [self.serve(address) for address in SERVERS[4][:2]]
        done = self.resolve(*SERVERS[4][:2])
        self.assertEqual(done.stderr, "")
        eventually(lambda: self.granted() == {f"{FRIEND[4]}/32"}, 3, "open for what they said")
        self.assertTrue(all(server.asked for server in servers))

    def test_both_families(self) -> None:
        names = []
        for number in (0, 1):
            self.serve(SERVERS[4][number])
            self.serve(SERVERS[6][number])
            names.append(f"stun{number}.test")
        lines = [f"{SERVERS[family][number]} stun{number}.test" for number in (0, 1) for family in (4, 6)]
        self.use_hosts(*(f"{address} {HOST_NAME}" for address in GATEWAY.values()), *lines)
        self.change_profile('address = "as-seen"', 'address = "resolve"\nstun = ["stun0.test", "stun1.test:3478"]')
        self.client("open", HOST_NAME, "ssh", "--once")
        eventually(lambda: self.granted() == {f"{FRIEND[4]}/32", f"{FRIEND[6]}/128"}, 3, "both")

    def test_two_that_disagree(self) -> None:
        self.serve(SERVERS[4][0])
        self.serve(SERVERS[4][1], ELSEWHERE)
        done = self.resolve(*SERVERS[4][:2], check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(as_object(done.stdout)["sent"], [])
        self.assertIn(f"do not agree on this device's public address: {SERVERS[4][0]} says {FRIEND[4]}", done.stderr)
        self.assertIn("try: --address", done.stderr)

    def test_two_against_one(self) -> None:
        self.serve(SERVERS[4][0])
        self.serve(SERVERS[4][1], ELSEWHERE)
        self.serve(SERVERS[4][2])
        self.resolve(*SERVERS[4])
        eventually(lambda: self.granted() == {f"{FRIEND[4]}/32"}, 3, "the two")

    def test_silent_and_spoofing_servers(self) -> None:
        for manner in ("silent", "spoofed"):
            with self.subTest(manner=manner):
                server = StunServer(self.network.gateway, SERVERS[4][0], manner=manner)
                self.addCleanup(server.end)
                other = StunServer(self.network.gateway, SERVERS[4][1])
                self.addCleanup(other.end)
                begun = time.monotonic()
                done = self.resolve(*SERVERS[4][:2], check=False)
                self.assertEqual(done.returncode, 1)
                self.assertLess(time.monotonic() - begun, 15)
                self.assertGreaterEqual(server.asked, 2, "asked again")
                self.assertNotIn(ELSEWHERE, done.stderr)
                self.assertEqual(self.granted(), set())
                server.end()
                other.end()

    def test_nobody_answers(self) -> None:
        done = self.resolve(*SERVERS[4][:2], check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("none of the STUN servers answered", done.stderr)

    def test_one_server_under_two_names(self) -> None:
        self.serve(SERVERS[4][0])
        self.use_hosts(f"{GATEWAY[4]} {HOST_NAME}", f"{SERVERS[4][0]} a.test", f"{SERVERS[4][0]} b.test")
        done = self.resolve("a.test", "b.test", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"do not agree on this device's public address: {SERVERS[4][0]} says", done.stderr)


if __name__ == "__main__":
    unittest.main()
