"""The whole path: a port that nobody sees, an invite, a knock, an ssh connection, and the door shut again."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
import unittest

import harness
import spa1
from harness import (
    ADMIN,
    FAMILIES,
    FRIEND,
    FRIEND_TOO,
    GATEWAY,
    HOST_NAME,
    KNOCK_PORT,
    STRANGER,
    Host,
    Outside,
    Service,
    SystemTest,
    as_object,
    eventually,
    never,
    server_toml,
)


def setUpModule() -> None:
    harness.require("nmap", "ssh", "ssh-keygen")


class Path(SystemTest):
    """The daemon runs with the services ssh and db."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()

    def reconfigured(self, *services: Service) -> None:
        """The same gateway with other services."""
        self.gateway.configure(server_toml(*services))
        self.gateway.restart()

    def scan(self, host: Host, family: int, *options: str) -> str:
        flags = ["-6"] if family == 6 else []
        argv = ["nmap", "-Pn", "-n", "--reason", "--max-retries", "1", *flags, *options, GATEWAY[family]]
        return host.run(*argv, timeout=60).stdout

    # Closed

    def test_a_scan_sees_nothing(self) -> None:
        for host in (self.friend, self.stranger):
            for family in FAMILIES:
                with self.subTest(host=host.name, family=family):
                    self.assertRegex(self.scan(host, family, "-sS", "-p", "22"), r"22/tcp +filtered +\S+ +no-response")

    def test_knock_port_looks_like_any_closed_port(self) -> None:
        for family in FAMILIES:
            answers = [udp_answer(self.friend, GATEWAY[family], port) for port in (KNOCK_PORT, KNOCK_PORT + 1)]
            self.assertEqual(answers, ["refused", "refused"], f"IPv{family}")

    def test_a_knock_gets_no_answer_but_that_of_a_closed_port(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        datagram = spa1.seal(alice.keys, alice.payload())
        self.assertEqual(udp_answer(self.friend, GATEWAY[4], KNOCK_PORT, datagram), "refused")
        self.assert_opens(self.friend, GATEWAY[4])

    def test_always_allowed_gets_in_without_a_knock(self) -> None:
        for family in FAMILIES:
            self.assertTrue(self.friend.is_open(GATEWAY[family], source=ADMIN[family]), f"IPv{family}")
        self.assert_shut()

    def test_loopback_gets_in_without_a_knock(self) -> None:
        for address in ("127.0.0.1", "::1", *GATEWAY.values()):
            self.assertTrue(self.gateway.host.is_open(address), address)

    # Our client

    def enroll(self, name: str = "alice", services: str = "ssh") -> None:
        self.client("enroll", self.gateway.invite(name, services))
        eventually(lambda: self.enrolled(name), what=f"{name} enrolled")

    def test_from_an_invite_to_a_command_over_ssh(self) -> None:
        self.assert_nothing_open()
        self.enroll()
        self.assert_nothing_open()
        answer = as_object(self.client("open", HOST_NAME, "ssh", "--wait", "--json").stdout)
        self.assertEqual(answer["services"], [{"name": "ssh", "state": "open"}])
        for family in FAMILIES:
            self.assert_opens(self.friend, GATEWAY[family])
            self.assertTrue(self.sshd.runs(self.friend, GATEWAY[family]), f"ssh over IPv{family}")
        self.assertTrue(self.sshd.runs(self.friend, HOST_NAME))
        self.assert_shut(self.stranger)
        self.assert_shut(self.friend, FRIEND_TOO)
        self.client("close", HOST_NAME, "ssh")
        eventually(lambda: not self.gateway.entries(), what="both families closed")
        self.assert_nothing_open()

    def test_invite_from_stdin_and_a_profile_name(self) -> None:
        text = self.gateway.invite("alice")
        self.client("enroll", "-", "--profile", "work", stdin=text + "\n")
        eventually(lambda: self.enrolled("alice"))
        self.client("open", "work", "ssh")
        self.assert_opens(self.friend, GATEWAY[4])
        again = self.client("enroll", self.gateway.invite("bob"), "--profile", "work", check=False)
        self.assertEqual(again.returncode, 1, "a profile is not overwritten unasked")
        mode = os.stat(self.network.folder / "profiles" / "work.toml").st_mode & 0o777
        self.assertEqual(mode, 0o600)

    def test_client_asks_for_another_address(self) -> None:
        self.enroll()
        self.client("open", HOST_NAME, "ssh", "--address", FRIEND_TOO[4], "--once")
        self.assert_opens(self.friend, GATEWAY[4], source=FRIEND_TOO[4])
        self.assert_shut(self.friend, FRIEND)

    def test_once_ends_at_once_and_the_rest_takes_three_rounds(self) -> None:
        self.enroll()
        begun = time.monotonic()
        sent = as_object(self.client("open", HOST_NAME, "ssh", "--once", "--json").stdout)["sent"]
        self.assertLess(time.monotonic() - begun, 0.4)
        self.assertEqual({entry["address"] for entry in sent}, set(GATEWAY.values()))
        self.assertEqual(len(sent), 2)
        for entry in sent:
            self.assertEqual(entry["port"], KNOCK_PORT)
            self.assertTrue(288 <= entry["bytes"] <= 512, entry)
        sent = as_object(self.client("open", HOST_NAME, "ssh", "--json").stdout)["sent"]
        self.assertEqual(len(sent), 6, "three rounds to two addresses")

    def test_wait_names_causes_when_nothing_opens(self) -> None:
        self.enroll()
        self.gateway.stop()
        answer = self.client("open", HOST_NAME, "ssh", "--wait", "--json", check=False)
        self.assertEqual(answer.returncode, 1)
        parsed = as_object(answer.stdout)
        self.assertEqual(parsed["services"], [{"name": "ssh", "state": "closed"}])
        self.assertTrue(parsed["hints"])

    # Doors

    def add(self, name: str, *services: str, **settings: object) -> Outside:
        return Outside.add(self.gateway, name, services or ("ssh",), **settings)

    def test_a_door_is_one_address_of_one_family(self) -> None:
        alice = self.add("alice")
        alice.open(self.friend, GATEWAY[6])
        self.assert_opens(self.friend, GATEWAY[6])
        self.assertEqual(list(self.gateway.entries()), [FRIEND[6]])
        self.assertEqual(self.friend.reach(GATEWAY[4]), "filtered")
        self.assert_shut(self.friend, FRIEND_TOO)
        self.assert_shut(self.stranger)

    def test_explicit_address_opens_for_it_alone(self) -> None:
        alice = self.add("alice")
        for family in FAMILIES:
            alice.open(self.friend, GATEWAY[4], address=STRANGER[family])
            self.assert_opens(self.stranger, GATEWAY[family])
        self.assert_shut(self.friend)

    def test_an_established_connection_outlives_the_door(self) -> None:
        self.reconfigured(Service(duration="2s"))
        alice = self.add("alice")
        alice.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])
        argv = self.friend.argv(*self.sshd.command(GATEWAY[4]), "sh", "-c", "'sleep 5; echo still here'")
        session = harness.Process(argv)
        self.addCleanup(session.end)
        eventually(lambda: not self.gateway.entries(), 4)
        self.assert_shut()
        self.assertEqual(session.wait(15), 0, session.text())
        self.assertEqual(session.out, ["still here"])

    def test_a_second_knock_renews_and_leaves_one_entry(self) -> None:
        alice = self.add("alice")
        alice.open(self.friend, GATEWAY[4])
        eventually(lambda: 1 <= self.gateway.entries().get(FRIEND[4], 0) <= 30)
        alice.open(self.friend, GATEWAY[4], duration=600)
        eventually(lambda: 500 < self.gateway.entries()[FRIEND[4]] <= 600, what="renewed")
        self.assertEqual(list(self.gateway.entries()), [FRIEND[4]])
        (grant,) = self.gateway.grants()
        self.assertTrue(500 < grant["remaining_s"] <= 600, grant)
        alice.open(self.friend, GATEWAY[4], duration=20)
        eventually(lambda: self.gateway.entries()[FRIEND[4]] <= 20, what="an open may also shorten")

    def test_close_closes(self) -> None:
        alice = self.add("alice")
        for family in FAMILIES:
            alice.open(self.friend, GATEWAY[family])
            self.assert_opens(self.friend, GATEWAY[family])
        alice.close(self.friend, GATEWAY[4])
        eventually(lambda: list(self.gateway.entries()) == [FRIEND[6]], what="only IPv4 closed")
        alice.close(self.friend, GATEWAY[6])
        eventually(lambda: not self.gateway.entries())
        self.assert_nothing_open()

    def test_an_open_held_back_does_not_undo_a_close(self) -> None:
        alice = self.add("alice")
        held = spa1.seal(alice.keys, alice.payload())
        alice.close(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.status()["accepted"]["close"] == 1)
        with self.refusing("older"):
            self.friend.send(held, GATEWAY[4])

    def test_a_client_that_roams_leaves_its_earlier_address(self) -> None:
        for name, roams in (("anna", True), ("bert", False)):
            client = Outside.add(self.gateway, name, roam=roams)
            for address in ("198.51.100.7", "198.51.100.8"):
                client.open(self.friend, GATEWAY[4], address=address)
                eventually(lambda address=address: address in self.opened_for(name), what=f"{name} at {address}")
            there = {"198.51.100.8"} if roams else {"198.51.100.7", "198.51.100.8"}
            self.assertEqual(self.opened_for(name), there)

    def opened_for(self, name: str) -> set[str]:
        return {grant["address"] for grant in self.gateway.grants() if grant["client"] == name}

    def test_one_client_cannot_close_anothers_door(self) -> None:
        alice, bob = self.add("alice"), self.add("bob")
        alice.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])
        bob.close(self.friend, GATEWAY[4])
        self.barrier()
        bob.close(self.stranger, GATEWAY[4], address=FRIEND[4])
        self.barrier(self.stranger)
        self.assertTrue(self.friend.is_open(GATEWAY[4]))
        self.assertEqual([grant["client"] for grant in self.gateway.grants()], ["alice"])

    # Policy

    def test_duration_is_capped(self) -> None:
        self.reconfigured(Service(max_duration="60s"), Service("db", ["tcp/5432"]))
        alice, bob = self.add("alice", "ssh", "db"), self.add("bob", "db", max_duration="40s")
        alice.open(self.friend, GATEWAY[4], duration=3600)
        eventually(lambda: 0 < self.gateway.entries().get(FRIEND[4], 0) <= 60, what="capped by the service")
        bob.open(self.friend, GATEWAY[4], "db", duration=0xFFFF_FFFF)
        eventually(lambda: 0 < self.gateway.entries("db").get(FRIEND[4], 0) <= 40, what="capped by the client's policy")

    def test_forbidden_and_unknown_services_are_refused(self) -> None:
        alice = self.add("alice")
        for service in ("db", "nothing", "tcp/22", "ssh/../db"):
            with self.subTest(service=service), self.refusing("policy"):
                alice.open(self.friend, GATEWAY[4], service)

    def test_what_is_forbidden_is_left_out(self) -> None:
        alice = self.add("alice")
        alice.open(self.friend, GATEWAY[4], "db", "ssh", "nothing")
        self.assert_opens(self.friend, GATEWAY[4])
        self.assertEqual(self.gateway.entries("db"), {})
        eventually(lambda: re.search(r"\bdb\b", self.gateway.log()), what="the log names what was left out")

    def test_an_empty_list_opens_nothing(self) -> None:
        nobody = Outside.add(self.gateway, "nobody", [])
        with self.refusing("policy"):
            nobody.open(self.friend, GATEWAY[4])

    def test_addresses_that_are_refused(self) -> None:
        alice = self.add("alice")
        for address in ("127.0.0.1", "::1", "169.254.7.7", "fe80::7"):
            with self.subTest(address=address), self.refusing("policy"):
                alice.open(self.friend, GATEWAY[4], address=address)

    def test_policy_on_the_address(self) -> None:
        bound, near = self.add("bound", address="explicit"), self.add("near", sources=["10.77.2.0/24"])
        with self.refusing("policy"):
            bound.open(self.friend, GATEWAY[4])
        with self.refusing("policy"):
            near.open(self.friend, GATEWAY[4])
        bound.open(self.friend, GATEWAY[4], address=FRIEND[4])
        near.open(self.stranger, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])
        self.assert_opens(self.stranger, GATEWAY[4])

    def test_a_door_is_widened_where_the_policy_says_so(self) -> None:
        wide = self.add("wide", widen=["/24", "/64"])
        wide.open(self.friend, GATEWAY[4])
        wide.open(self.friend, GATEWAY[6])
        for family in FAMILIES:
            self.assert_opens(self.friend, GATEWAY[family], source=FRIEND_TOO[family])
        self.assertEqual({grant["opened"] for grant in self.gateway.grants()}, {"10.77.1.0/24", "fd77:1::/64"})
        self.assert_shut(self.stranger)

    # What a person does meanwhile

    def test_revoking_shuts_the_door_within_a_second(self) -> None:
        alice = self.add("alice")
        alice.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])
        self.gateway.keys("revoke", "alice")
        eventually(lambda: not self.gateway.entries(), 2, "shut by the revocation")
        with self.refusing("who"):
            alice.open(self.friend, GATEWAY[4])
        self.gateway.keys("restore", "alice")
        eventually(lambda: self.gateway.status()["clients"]["active"] == 1, 2, "restored within a second")
        alice.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])

    def test_taking_the_service_away_shuts_the_door(self) -> None:
        alice = self.add("alice", "ssh", "db")
        alice.open(self.friend, GATEWAY[4], "ssh", "db")
        eventually(lambda: self.gateway.entries() and self.gateway.entries("db"))
        self.gateway.keys("set", "alice", "--services", "db")
        eventually(lambda: not self.gateway.entries(), 2, "ssh shut")
        self.assertEqual(list(self.gateway.entries("db")), [FRIEND[4]])

    def test_close_by_the_operator(self) -> None:
        alice, bob = self.add("alice"), self.add("bob")
        alice.open(self.friend, GATEWAY[4])
        bob.open(self.stranger, GATEWAY[4])
        eventually(lambda: len(self.gateway.grants()) == 2)
        self.gateway.control("close", "alice")
        eventually(lambda: list(self.gateway.entries()) == [STRANGER[4]])
        self.gateway.control("close", "--address", STRANGER[4], "ssh")
        eventually(lambda: not self.gateway.entries())
        alice.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])


def udp_answer(host: Host, to: str, port: int, datagram: bytes = b"x" * 300) -> str:
    """What comes back to a datagram: "refused" by ICMP, "nothing", or the octets."""
    with host.socket(harness.inet(to), socket.SOCK_DGRAM) as udp:
        udp.settimeout(1)
        udp.connect((to, port))
        udp.send(datagram)
        try:
            return udp.recv(2000).hex()
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "nothing"


class OnTheWire(unittest.TestCase):
    """What spa-client sends, read by the outside implementation; the gateway here is only a socket."""

    def setUp(self) -> None:
        self.network = harness.Network()
        self.addCleanup(self.network.remove)
        self.identity = spa1.Identity(secrets.token_bytes(32), secrets.token_bytes(32))
        self.sockets = []
        for address in GATEWAY.values():
            udp = self.network.gateway.socket(harness.inet(address), socket.SOCK_DGRAM)
            self.addCleanup(udp.close)
            udp.bind((address, KNOCK_PORT))
            udp.setblocking(False)
            self.sockets.append(udp)

    def client(self, *arguments: str) -> None:
        home = self.network.folder / "profiles"
        self.network.friend.run("env", f"SPA_CONFIG_DIR={home}", str(harness.BIN / "spa-client"), *arguments)

    def received(self, count: int, most: int | None = None) -> list[tuple[bytes, tuple[str, int]]]:
        """So many datagrams with their sources, exactly or up to `most`."""
        found: list[tuple[bytes, tuple[str, int]]] = []

        def more() -> bool:
            for udp in self.sockets:
                try:
                    data, source = udp.recvfrom(4096)
                    found.append((data, source[:2]))
                except BlockingIOError:
                    continue
            return len(found) >= count

        eventually(more, 4, f"{count} datagrams")
        never(lambda: more() and len(found) > (most or count), 0.2, f"more than {most or count} datagrams")
        return found

    def read(self, data: bytes, keys: spa1.ClientKeys, role: str) -> spa1.Knock:
        return spa1.judge(data, [self.identity], time.time_ns(), {keys.public: [keys.psk]}, role)

    def test_an_outside_reader_understands_it(self) -> None:
        seed, end = secrets.token_bytes(32), int(time.time()) + 900
        services = ["ssh=tcp/22", "db=tcp/5432"]
        invite = spa1.Invite(
            self.identity.public, self.identity.hmac_key, seed, end, 0, [KNOCK_PORT], HOST_NAME, "alice", services
        )
        self.client("enroll", invite.to_text())
        sent = self.received(6)
        self.check_manner(sent, 3)
        knocks = [self.read(data, invite.keys, "invite") for data, _ in sent]
        asked = {(knock.request["enroll"]["public_key"], knock.request["enroll"]["psk"]) for knock in knocks}
        self.assertEqual(len(asked), 1, "one new key and PSK, repeated")
        ((public, psk),) = asked
        keys = spa1.ClientKeys(self.identity.public, self.identity.hmac_key, bytes(32), bytes.fromhex(psk))
        psks = {bytes.fromhex(public): [keys.psk]}

        def judged(data: bytes) -> dict[str, object]:
            return spa1.judge(data, [self.identity], time.time_ns(), psks, "client").request

        self.client("open", HOST_NAME, "ssh", "db", "--for", "1h", "--once")
        sent = self.received(2)
        self.check_manner(sent, 1)
        for data, _ in sent:
            request = judged(data)
            self.assertEqual((request["kind"], request["address"]), ("open", None))
            self.assertEqual((request["services"], request["duration_s"]), (["ssh", "db"], 3600))
        self.client("open", HOST_NAME, "ssh", "--address", "192.0.2.7", "--once")
        for data, _ in self.received(1, most=2):
            self.assertEqual(judged(data)["address"], "192.0.2.7")
        self.client("close", HOST_NAME, "ssh")
        for data, _ in self.received(6):
            request = judged(data)
            self.assertEqual((request["kind"], request["duration_s"]), ("close", 0))

    def check_manner(self, sent: list[tuple[bytes, tuple[str, int]]], rounds: int) -> None:
        """Own ephemeral key, own source port, a length of its kind, both families."""
        self.assertEqual(len({data for data, _ in sent}), len(sent))
        self.assertEqual(len({source for _, source in sent}), len(sent), "own source port")
        self.assertEqual(sum(":" in source[0] for _, source in sent), rounds)
        for data, _ in sent:
            self.assertTrue(288 <= len(data) <= 512, len(data))


if __name__ == "__main__":
    unittest.main()
