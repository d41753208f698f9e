"""What fwknop's suite checks and no other module here shows; docs/behaviours.md has the whole list."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shutil
import socket
import threading
import unittest
from pathlib import Path

import harness
import spa1
from harness import (
    BIN,
    FAMILIES,
    FRIEND,
    GATEWAY,
    KNOCK_PORT,
    Host,
    Outside,
    Service,
    SystemTest,
    eventually,
    run,
    server_toml,
)

NOWHERE = {4: "198.51.100.99", 6: "2001:db8:99::9"}
HOUR_S = 3600
FAKE_TIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def setUpModule() -> None:
    harness.require("readelf", "setpriv")


class Echo:
    """Answers every datagram to a port of a host, in both families."""

    def __init__(self, host: Host, port: int) -> None:
        self.ends = threading.Event()
        self.sockets = [self.listening(host, family, port) for family in FAMILIES]
        self.threads = [threading.Thread(target=self.serve, args=(udp,), daemon=True) for udp in self.sockets]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def listening(host: Host, family: int, port: int) -> socket.socket:
        udp = host.socket(harness.inet(GATEWAY[family]), socket.SOCK_DGRAM)
        udp.bind((GATEWAY[family], port))
        udp.settimeout(0.1)
        return udp

    def serve(self, udp: socket.socket) -> None:
        while not self.ends.is_set():
            with contextlib.suppress(TimeoutError):
                said, peer = udp.recvfrom(100)
                udp.sendto(said, peer)

    def end(self) -> None:
        self.ends.set()
        for thread, udp in zip(self.threads, self.sockets, strict=True):
            thread.join(5)
            udp.close()


def is_answered(host: Host, family: int, port: int) -> bool:
    with host.socket(harness.inet(GATEWAY[family]), socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.3)
        udp.sendto(b"hello", (GATEWAY[family], port))
        try:
            return udp.recv(100) == b"hello"
        except OSError:
            return False


class Granting(SystemTest):
    def begin(self, *services: Service, **settings: object) -> Outside:
        self.gateway.configure(server_toml(*services, **settings))  # type: ignore[arg-type]
        alice = Outside.add(self.gateway, "alice", [service.name for service in services] or ["ssh"])
        self.gateway.start()
        return alice

    def test_udp_high_ports_and_several_services_in_one_packet(self) -> None:
        talk = Service("talk", ["udp/5000", "udp/65535"])
        alice = self.begin(Service(), talk)
        for port in (5000, 65535):
            self.addCleanup(Echo(self.network.gateway, port).end)
        for family in FAMILIES:
            self.assertFalse(is_answered(self.friend, family, 5000), "hidden before")
            alice.open(self.friend, GATEWAY[family], "ssh", "talk")
            eventually(lambda family=family: is_answered(self.friend, family, 5000), 5, "udp/5000 answers")
            self.assertTrue(is_answered(self.friend, family, 65535))
            self.assertTrue(self.friend.is_open(GATEWAY[family]), "tcp/22 by the same packet")
            self.assertFalse(is_answered(self.stranger, family, 5000))
        self.assertEqual(self.gateway.status()["accepted"]["open"], 2)

    def test_three_cycles_with_one_daemon(self) -> None:
        alice = self.begin(Service(duration="1s"))
        for cycle in range(3):
            with self.subTest(cycle=cycle):
                alice.open(self.friend, GATEWAY[4])
                eventually(lambda: self.gateway.entries(), 5, "open")
                eventually(lambda: not self.gateway.entries() and not self.gateway.grants(), 5, "ended")
                self.assert_shut()
        self.assertEqual(self.gateway.status()["accepted"]["open"], 3)

    def test_the_shortest_and_the_longest_addresses(self) -> None:
        alice = self.begin()
        addresses = {"1.0.0.1", "223.255.255.254", "1::", "2001:db8:1111:2222:3333:4444:5555:6666"}
        for address in addresses:
            alice.open(self.friend, GATEWAY[4], address=address)
        eventually(lambda: len(self.gateway.grants()) == len(addresses), 5)
        wanted = {ipaddress.ip_address(address) for address in addresses}
        self.assertEqual({ipaddress.ip_address(grant["address"]) for grant in self.gateway.grants()}, wanted)
        self.assertEqual({ipaddress.ip_address(entry.split("/")[0]) for entry in self.gateway.entries()}, wanted)

    def test_each_of_several_knock_ports(self) -> None:
        ports = [KNOCK_PORT, 1, 7007, 65535]
        alice = self.begin(ports=ports)
        for number, port in enumerate(ports, 1):
            datagram = spa1.seal(alice.keys, alice.payload(address=f"192.0.2.{number}"))
            self.friend.send(datagram, GATEWAY[4], port)
            eventually(lambda number=number: len(self.gateway.grants()) == number, 5, f"a knock at {port}")

    def test_a_spoofed_outer_source_does_not_matter_where_the_address_is_sealed(self) -> None:
        alice = self.begin()
        for family in FAMILIES:
            sealed = spa1.seal(alice.keys, alice.payload(address=FRIEND[family]))
            data = harness.udp_packet(NOWHERE[family], GATEWAY[family], 40000, KNOCK_PORT, sealed)
            make = harness.ipv4_packet if family == 4 else harness.ipv6_packet
            harness.send_packet(self.stranger, GATEWAY[family], make(NOWHERE[family], GATEWAY[family], data))
            self.assert_opens(self.friend, GATEWAY[family])
        self.assertEqual(set(self.gateway.entries()), set(FRIEND.values()), "not for the outer source")
        self.assert_shut(self.stranger)


@unittest.skipUnless(FAKE_TIME, "needs faketime, to set the daemon's clock")
class GatewayClock(SystemTest):
    """The gateway's wall clock is set back and forward under its feet."""

    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice", ["ssh", "db"])
        self.gateway.start()

    def restart_at(self, offset_s: int) -> None:
        self.gateway.stop()
        # Not by faketime(1): it stays beside the program that it starts, and takes the signals for it.
        clock = ("env", f"LD_PRELOAD={FAKE_TIME}", "FAKETIME_DONT_FAKE_MONOTONIC=1", f"FAKETIME={offset_s:+d}s")
        self.gateway.wrapper = clock if offset_s else ()
        self.gateway.start()

    def accepted(self) -> int:
        return int(self.gateway.status()["accepted"]["open"])

    def opens(self, service: str, offset: float = 0.0) -> bytes:
        before = self.accepted()
        datagram = self.alice.open(self.friend, GATEWAY[4], service, offset=offset, duration=1)
        eventually(lambda: self.accepted() == before + 1, 5, "accepted")
        eventually(lambda: not self.gateway.grants(), 5, "ended")
        return datagram

    def present(self) -> bytes:
        return spa1.seal(self.alice.keys, self.alice.payload())

    def is_refused(self, reason: str, datagram: bytes) -> None:
        before = self.gateway.refused(reason)
        self.friend.send(datagram, GATEWAY[4])
        eventually(lambda: self.gateway.refused(reason) == before + 1, 5, f"refused for {reason}")
        self.assertEqual(self.gateway.grants(), [])

    def test_set_back_inside_the_window_nothing_opens_twice(self) -> None:
        used = self.opens("ssh")
        self.restart_at(-30)
        self.is_refused("replay", used)
        self.assertIsNone(self.gateway.status()["clock"]["warning"])

    def test_set_back_by_hours_it_says_so_and_opens_nothing_old(self) -> None:
        used = self.opens("ssh")
        self.restart_at(-2 * HOUR_S)
        self.assertRegex(str(self.gateway.status()["clock"]["warning"]), "clock")
        self.assertIn("ERROR", self.gateway.log())
        self.is_refused("time", used)
        self.is_refused("time", self.present())
        newest = self.gateway.explained(1)[0]
        self.assertEqual(newest["client"], "alice")
        self.assertAlmostEqual(newest["difference_s"], 2 * HOUR_S, delta=30)
        self.restart_at(0)
        self.is_refused("replay", used)
        self.opens("ssh")

    def test_set_forward_and_back_the_honest_still_get_in(self) -> None:
        used = self.opens("ssh")
        self.restart_at(2 * HOUR_S)
        self.is_refused("time", used)
        self.is_refused("time", self.present())
        self.opens("ssh", offset=2 * HOUR_S)
        self.restart_at(0)
        self.is_refused("replay", used)
        self.opens("db")
        self.opens("db")


class Rights(SystemTest):
    with_sshd = False

    def without(self, capability: str, *options: str) -> tuple[str, ...]:
        setpriv = ("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}")
        return (*setpriv, str(BIN / "spa-server"), "run", "--dir", str(self.gateway.dir), *options)

    def test_a_missing_capability_is_named(self) -> None:
        for capability in ("net_admin", "net_raw"):
            with self.subTest(capability):
                done = self.gateway.host.run(*self.without(capability), check=False)
                self.assertIn(done.returncode, (1, 77), done.stderr)
                self.assertEqual(done.stdout, "", "not ready")
                self.assertIn(f"CAP_{capability.upper()}", done.stderr)

    def test_a_capture_that_is_not_permitted_says_what_it_lacks(self) -> None:
        daemon = harness.Process(self.gateway.host.argv(*self.without("net_raw", "--dry-run")))
        self.addCleanup(daemon.end)
        eventually(lambda: "CAP_NET_RAW" in daemon.text(), 5, "the right is named")


class Silence(SystemTest):
    """Nothing leaves the daemon, and it starts no program for a knock."""

    with_sshd = False

    @unittest.skipUnless(shutil.which("strace"), "needs strace, to see the daemon's calls")
    def test_the_daemon_speaks_to_nobody(self) -> None:
        calls = self.network.folder / "calls"
        traced = "trace=connect,sendto,sendmsg,sendmmsg,execve"
        self.gateway.wrapper = ("strace", "-D", "-f", "-qq", "-s", "0", "-o", str(calls), "-e", traced)
        alice, invite = Outside.add(self.gateway, "alice"), self.gateway.invite("bob")
        self.gateway.start()
        # The commands that look at it are not meant.
        self.gateway.wrapper = ()
        eventually(lambda: calls.read_text(), 5, "strace writes")
        begun = len(calls.read_text())
        for family in FAMILIES:
            alice.open(self.friend, GATEWAY[family])
            alice.open(self.friend, GATEWAY[family], "nothing")
            alice.open(self.friend, GATEWAY[family], offset=-HOUR_S)
            self.friend.send(bytes(300), GATEWAY[family])
            Outside(harness.fresh_keys(self.gateway)).open(self.friend, GATEWAY[family])
        self.friend.send(harness.enroll_datagram(invite, harness.fresh_keys(self.gateway)), GATEWAY[4])
        eventually(lambda: self.enrolled("bob"), 5, "enrolled")
        eventually(lambda: len(self.gateway.entries()) == 2, 5, "open")
        text = calls.read_text()
        self.assertIn("AF_NETLINK", text, "strace saw what the daemon says to the kernel")
        # iptables-restore asks the C library for a port's number, which connects to itself and sends nothing.
        told = [line for line in text.splitlines() if "AF_INET" in line]
        self.assertEqual([line for line in told if not re.search(r'"(::1|127\.0\.0\.1)"', line)], [])
        if harness.BACKEND == "iptables":
            self.assertNotIn("execve(", text[begun:], "no program for a knock")


class Keys(SystemTest):
    with_sshd = False

    def test_keys_made_anywhere_differ(self) -> None:
        gateways = [self.make_gateway() for _ in range(3)]
        for secret in ("public", "hmac_key"):
            self.assertEqual(len({getattr(gateway, secret) for gateway in gateways}), 3, secret)
        invites = [spa1.parse_invite(self.gateway.invite(f"client{number}")) for number in range(20)]
        self.assertEqual(len({invite.seed for invite in invites}), 20)
        self.gateway.start()
        for name in ("anna", "bert", "carl"):
            self.client("enroll", "-", "--profile", name, "--no-proof", stdin=self.gateway.invite(name))
        profiles = [path.read_text() for path in (self.network.folder / "profiles").glob("*.toml")]
        self.assertEqual(len(profiles), 3)
        for key in ("private-key", "psk"):
            found = {match[1] for text in profiles if (match := re.search(rf'(?m)^{key} = "([\w-]{{43}})"$', text))}
            self.assertEqual(len(found), 3, key)


class Programs(unittest.TestCase):
    """What the built files say of themselves."""

    names = ("spa-server", "spa-keys", "spa-client")

    def test_position_independent_with_read_only_relocations_and_no_executable_stack(self) -> None:
        for name in self.names:
            with self.subTest(name):
                told = run("readelf", "-hldW", BIN / name).stdout
                self.assertRegex(told, r"Type: +DYN \(Position-Independent")
                self.assertRegex(told, r"(?m)^ +GNU_RELRO ")
                self.assertRegex(told, r"FLAGS_1\) +Flags: NOW PIE")
                (flags,) = re.findall(r"(?m)^ +GNU_STACK(?: +0x\w+){5} +(\w+)", told)
                self.assertEqual(flags, "RW")

    def test_only_the_daemon_needs_libpcap(self) -> None:
        for name in self.names:
            needed = re.findall(r"NEEDED.*\[(.*?)\.so", run("readelf", "-dW", BIN / name).stdout)
            self.assertEqual("libpcap" in needed, name == "spa-server", (name, needed))

    def test_versions_and_help(self) -> None:
        for name in self.names:
            self.assertRegex(run(BIN / name, "--version").stdout, rf"^{name} \d+\.\d+\.\d+\n$")
            for help_ in ("--help", "-h"):
                self.assertIn(f"Usage: {name}", run(BIN / name, help_).stdout)


if __name__ == "__main__":
    unittest.main()
