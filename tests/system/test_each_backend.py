"""The same scenarios with every kind of door, in both families, asked of a real sshd: docs/backends.md says the rest.

One network, sshd and daemon serve all scenarios of a kind; a scenario leaves no door open behind it.
"""

from __future__ import annotations

import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness
import kinds
from harness import FAMILIES, FRIEND, FRIEND_TOO, GATEWAY, Gateway, Network, Outside, SystemTest, eventually


def setUpModule() -> None:
    harness.require("nft", "ssh", "tcpd")
    if why := kinds.missing():
        raise unittest.SkipTest(why)


class Scenarios(SystemTest):
    kind_of: type[kinds.Kind]
    kind: kinds.Kind
    gateway: Gateway

    @classmethod
    def setUpClass(cls) -> None:
        cls.network = Network()
        cls.addClassCleanup(cls.network.remove)
        cls.friend = cls.network.friend
        cls.kind = cls.kind_of(cls.network)
        cls.gateway = cls.kind.make_gateway()
        cls.addClassCleanup(cls.gateway.remove)
        cls.addClassCleanup(cls.kind.make_sshd().remove)
        cls.alice, cls.bob = (Outside.add(cls.gateway, name) for name in ("alice", "bob"))

    def setUp(self) -> None:
        self.addCleanup(self.show_log, self.gateway)
        if not self.gateway.daemon:
            self.gateway.start()
        self.addCleanup(self.close_all)

    def close_all(self) -> None:
        if self.gateway.daemon:
            for name in ("alice", "bob"):
                self.gateway.control("close", name, check=False)
            eventually(self.is_shut, 3, "shut after this scenario")

    # What scenarios say

    def open(self, duration: int = 60, client: Outside | None = None) -> float:
        """Opens in both families; when the first of them was asked for."""
        begun = time.monotonic()
        for family in FAMILIES:
            (client or self.alice).open(self.friend, GATEWAY[family], duration=duration, source=FRIEND[family])
        eventually(self.is_held, 5, "both doors are held open")
        return begun

    def is_held(self) -> bool:
        return all(self.kind.held(family) for family in FAMILIES)

    def is_shut(self) -> bool:
        return not any(self.kind.held(family) for family in FAMILIES)

    def greeted(self, seconds: float, source: dict[int, str]) -> list[bool]:
        """Whether sshd greets these addresses of Friend, IPv4 and IPv6, within so many seconds."""
        with ThreadPoolExecutor(len(FAMILIES)) as pool:
            tries = [pool.submit(harness.is_greeted, self.friend, GATEWAY[f], source[f], seconds) for f in FAMILIES]
            return [one.result() for one in tries]

    def assert_enters(self, why: str) -> None:
        self.assertEqual(self.greeted(5, FRIEND), [True, True], why)

    def assert_stays_out(self, why: str, source: dict[int, str] = FRIEND) -> None:
        self.assertEqual(self.greeted(0.6, source), [False, False], why)

    def assert_shut_in_time(self, why: str, seconds: float = 3) -> None:
        eventually(self.is_shut, seconds, why)
        self.assert_stays_out(why)

    # Scenarios

    def test_a_knock_opens_for_one_address_of_each_family_and_a_close_shuts(self) -> None:
        self.assert_stays_out("before")
        self.open()
        self.assert_enters("after the knocks")
        self.assert_stays_out("nobody else", FRIEND_TOO)
        self.assertEqual({tuple(grant["backends"]) for grant in self.gateway.grants()}, {(self.kind.backend,)})
        for family in FAMILIES:
            self.alice.close(self.friend, GATEWAY[family])
        self.assert_shut_in_time("closed")

    def test_a_renewal_leaves_one_entry(self) -> None:
        self.open(30)
        self.open(600)
        eventually(lambda: all(grant["remaining_s"] > 500 for grant in self.gateway.grants()), 3, "renewed")
        for family in FAMILIES:
            self.assertEqual(self.kind.held(family), [FRIEND[family]])

    def test_a_door_ends_in_time(self) -> None:
        begun = self.open(2)
        self.assert_shut_in_time("ended", 4)
        self.assertGreater(time.monotonic() - begun, 2, "not before")
        eventually(lambda: self.gateway.grants() == [], 2)

    def test_a_revocation_shuts_within_a_second(self) -> None:
        self.open()
        self.gateway.keys("revoke", "alice")
        self.assert_shut_in_time("revoked", 2)
        self.gateway.keys("restore", "alice")
        eventually(lambda: self.gateway.status()["clients"]["active"] == 2, 2, "restored")

    def test_a_door_stays_for_the_other_who_opened_it(self) -> None:
        self.open()
        self.open(client=self.bob)
        eventually(lambda: len(self.gateway.grants()) == 4, 3)
        self.gateway.control("close", "alice")
        eventually(lambda: len(self.gateway.grants()) == 2, 3)
        self.assert_enters("bob's doors stay")
        self.gateway.control("close", "bob")
        self.assert_shut_in_time("nobody's any more")

    def test_killed_the_doors_end_in_time(self) -> None:
        begun = self.open(2)
        self.gateway.kill9()
        self.assert_enters("open until its time")
        if not self.kind.ends_itself:
            looked = self.gateway.control_json("close-overdue")
            self.assertEqual((looked["daemon"], looked["closed"], looked["left"]), (False, 0, 2), "not before")
            closed = self.gateway.control_json("close-overdue", "--wait")
            self.assertEqual((closed["closed"], closed["left"], closed["again"]), (2, 0, None))
        self.assert_shut_in_time("shut with no daemon there", 5)
        self.assertTrue(2 < time.monotonic() - begun, "not before")

    def test_a_restart_keeps_the_doors_and_their_ends(self) -> None:
        self.open(60)
        self.gateway.kill9()
        self.assertTrue(self.is_held())
        self.gateway.start()
        for family in FAMILIES:
            self.assertEqual(self.kind.held(family), [FRIEND[family]], "kept, and once")
        self.assertEqual(self.gateway.stop(), 0)
        self.assertEqual(self.is_held(), self.kind.keeps_doors, "keep-doors = true")
        self.gateway.start()
        self.assert_enters("after a stop and a start")
        for grant in self.gateway.grants():
            self.assertTrue(40 < grant["remaining_s"] <= 60, grant)

    def test_without_keep_doors_a_stop_shuts(self) -> None:
        self.gateway.stop()
        self.gateway.configure(self.kind.toml(keep_doors=False))
        self.gateway.start()
        self.open()
        self.assertEqual(self.gateway.stop(), 0)
        self.assert_shut_in_time("shut by the stop", 0)
        self.gateway.configure(self.kind.toml())
        self.gateway.start()
        self.assert_shut_in_time("and by nobody opened again", 0)


class EndlessScenarios(Scenarios):
    """Those of doors that no kernel ends."""

    def test_what_ended_while_nobody_was_there_is_shut_before_ready(self) -> None:
        begun = self.open(2)
        self.gateway.kill9()
        time.sleep(max(0.0, begun + 2.3 - time.monotonic()))  # ends that nobody keeps
        self.gateway.start()
        self.assertTrue(self.is_shut())
        self.assertEqual(self.gateway.grants(), [])


def load_tests(loader: unittest.TestLoader, _tests: unittest.TestSuite, _pattern: str | None) -> unittest.TestSuite:
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in CASES)


def case_of(kind: type[kinds.Kind]) -> type[Scenarios]:
    base = Scenarios if kind.ends_itself else EndlessScenarios
    return type(kind.__name__, (base,), {"kind_of": kind, "__module__": __name__})


CASES = [case_of(kind) for kind in kinds.ALL]
globals().update({case.__name__: case for case in CASES})


if __name__ == "__main__":
    unittest.main()
