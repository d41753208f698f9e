"""`spa-client check`, where all is well and where something is not."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import threading
import time
import unittest
from typing import Any

import harness
from device import CLIENT, Device, StunServer
from harness import FRIEND, GATEWAY, HOST_NAME, Host, as_object, eventually, run

TIME_SERVERS = ("10.77.1.31", "10.77.1.32")
SINCE_1900 = 2_208_988_800


def setUpModule() -> None:
    harness.require("ssh", "ssh-keygen")


class TimeServer:
    """An SNTP server whose clock is `ahead` seconds later than this machine's."""

    def __init__(self, host: Host, address: str, ahead: float) -> None:
        self.ahead = ahead
        self.socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 123))
        self.socket.settimeout(0.1)
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while not self.ends.is_set():
            with contextlib.suppress(TimeoutError):
                request, peer = self.socket.recvfrom(512)
                now = struct.pack("!Q", int((time.time() + self.ahead + SINCE_1900) * 2**32))
                head = bytes([0x24, 2, 0, 0]) + bytes(20)
                self.socket.sendto(head + request[40:48] + now + now, peer)

    def end(self) -> None:
        self.ends.set()
        self.thread.join(5)
        self.socket.close()


class Check(Device):
    def setUp(self) -> None:
        super().setUp()
        self.enroll("alice", "ssh", "--no-proof")

    def check(self, *options: str, code: int = 0) -> dict[str, Any]:
        done = self.client("check", HOST_NAME, "--json", *options, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        answer = as_object(done.stdout)
        self.assertEqual(set(answer), {"profile", "ok", "verdict", "checks"})
        self.assertEqual(answer["ok"], code == 0)
        return answer

    def states(self, answer: dict[str, Any], name: str) -> list[str]:
        return [found["state"] for found in answer["checks"] if found["name"] == name]

    def texts(self, answer: dict[str, Any], name: str) -> str:
        return "\n".join(found["text"] for found in answer["checks"] if found["name"] == name)

    def tell_time(self, ahead: float) -> list[str]:
        self.add_to_gateway(*TIME_SERVERS)
        for address in TIME_SERVERS:
            server = TimeServer(self.network.gateway, address, ahead)
            self.addCleanup(server.end)
        return [word for address in TIME_SERVERS for word in ("--ntp", address)]

    def test_all_is_well(self) -> None:
        answer = self.check(*self.tell_time(0))
        self.assertEqual(answer["verdict"], "all is well: the door opens from here")
        self.assertEqual(self.states(answer, "port"), ["ok", "ok"])
        self.assertEqual(self.states(answer, "clock"), ["ok"])
        self.assertEqual(self.states(answer, "route"), ["ok", "ok"])
        self.assertIn(f"{GATEWAY[4]} is reached from {FRIEND[4]}", self.texts(answer, "route"))
        eventually(lambda: not self.granted(), 5, "nothing left open")

    def test_for_a_person(self) -> None:
        said = self.client("check", HOST_NAME, "--no-knock").stdout
        self.assertNotIn("\x1b", said)
        self.assertRegex(said, r"(?m)^ok       route  10\.77\.1\.1 is reached from 10\.77\.1\.2$")
        self.assertEqual(said.splitlines()[-1], "nothing wrong was found; no door was tried")
        self.assertEqual(self.gateway.status()["accepted"]["open"], 0)

    def test_a_clock_that_is_off(self) -> None:
        servers = self.tell_time(100)
        answer = self.check(*servers, "--no-knock", code=1)
        (clock,) = [found for found in answer["checks"] if found["name"] == "clock"]
        self.assertEqual((clock["state"], clock["try"]), ("error", "setting the clock, or --clock-offset +100s"))
        self.assertIn("the time is +100s from what the clock here says", answer["verdict"])
        corrected = self.check(*servers, "--no-knock", "--clock-offset", "+100s")
        self.assertEqual(self.states(corrected, "clock"), ["ok"])

    def test_a_wrong_clock_is_refused_and_its_offset_helps(self) -> None:
        if not shutil.which("faketime"):
            self.skipTest("faketime is not there")
        open_it = (CLIENT, "open", HOST_NAME, "ssh", "--once")
        late = ("faketime", "-f", "+600s")
        with self.refusing("time", count=2):
            self.through(*late, *open_it)
        with self.refusing("time", count=2):
            self.through(*open_it, "--clock-offset", "+10m")
        self.through(*late, *open_it, "--clock-offset", "-10m")
        eventually(lambda: len(self.granted()) == 2, 5, "open by the right time")

    def test_one_family_has_no_way(self) -> None:
        run("ip", "-n", self.friend.name, "-6", "addr", "flush", "dev", "eth0", "scope", "global")
        run("ip", "-n", self.friend.name, "-6", "route", "flush", "default", check=False)
        answer = self.check()
        self.assertEqual(sorted(self.states(answer, "route")), ["ok", "warning"])
        self.assertEqual(self.states(answer, "port"), ["ok"])
        self.assertIn("no way to fd77:1::1", answer["verdict"])

    def test_one_family_is_dead(self) -> None:
        run("ip", "-n", self.network.gateway.name, "addr", "del", "fd77:1::1/64", "dev", "friend0")
        answer = self.check()
        self.assertEqual(sorted(self.states(answer, "port")), ["ok", "warning"])
        self.assertIn("not by every way", answer["verdict"])

    def test_no_way_at_all(self) -> None:
        run("ip", "-n", self.friend.name, "link", "set", "eth0", "down")
        answer = self.check(code=1)
        self.assertEqual(self.states(answer, "route"), ["error", "error"])
        self.assertIn("likely cause: no way to", answer["verdict"])

    def test_no_name(self) -> None:
        self.use_hosts()
        answer = self.check(code=1)
        self.assertIn("likely cause: no address found for gateway.test", answer["verdict"])

    def test_small_packets(self) -> None:
        for host, interface in ((self.friend, "eth0"), (self.network.gateway, "friend0")):
            run("ip", "-n", host.name, "link", "set", interface, "mtu", "1280")
        answer = self.check()
        self.assertIn("may have 1280 bytes", self.texts(answer, "mtu"))
        self.assertEqual(self.states(answer, "port"), ["ok", "ok"])
        # IPv6 ends below 1280.
        run("ip", "-n", self.friend.name, "link", "set", "eth0", "mtu", "600")
        answer = self.check("--no-knock")
        self.assertEqual(self.states(answer, "mtu"), ["warning"])

    def test_the_gateway_is_down(self) -> None:
        self.gateway.stop()
        answer = self.check(code=1)
        self.assertEqual(self.states(answer, "port"), ["error", "error"])
        self.assertIn("nothing opened", answer["verdict"])

    def test_udp_goes_out(self) -> None:
        servers = ("10.77.1.21", "10.77.1.22")
        self.add_to_gateway(*servers)
        for address in servers:
            self.addCleanup(StunServer(self.network.gateway, address).end)
        named = [word for address in servers for word in ("--stun", address)]
        answer = self.check("--no-knock", *named)
        self.assertIn(f"others see this device as {FRIEND[4]}", self.texts(answer, "udp"))
        self.change_profile('address = "as-seen"', 'address = ["192.0.2.7"]')
        answer = self.check("--no-knock", *named, code=1)
        self.assertIn(f"the profile says address 192.0.2.7, but others see {FRIEND[4]}", answer["verdict"])

    def test_a_profile_that_cannot_be_read(self) -> None:
        self.profile().chmod(0o644)
        answer = self.check(code=78)
        self.assertEqual(self.states(answer, "file"), ["error"])
        self.assertEqual(answer["checks"][0]["try"], f"chmod 600 {self.profile()}")


if __name__ == "__main__":
    unittest.main()
