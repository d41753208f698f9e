"""A door that is kept open: renewed before its end, asked for again when the device's address changes."""

from __future__ import annotations

import json
import signal
import unittest

import harness
from device import Device
from harness import FRIEND, GATEWAY, HOST_NAME, Process, eventually, never, run


def setUpModule() -> None:
    harness.require("ssh", "ssh-keygen")


class Watch(Device):
    def setUp(self) -> None:
        super().setUp()
        self.enroll("alice", "ssh", "--no-proof")

    def watch(self, *options: str) -> Process:
        process = self.start_client("watch", HOST_NAME, "ssh", *options)
        eventually(lambda: process.out, 10, "the first line")
        return process

    def move(self, number: int) -> None:
        """Friend has other addresses from now on, and no longer those that it had."""
        name = self.friend.name
        lines = [
            "addr flush dev eth0 scope global",
            f"addr add 10.77.1.{number}/24 dev eth0",
            f"addr add fd77:1::{number}/64 dev eth0 nodad",
        ]
        run("ip", "-n", name, "-batch", "-", stdin="\n".join(lines) + "\n")

    def test_it_stays_open_past_its_time(self) -> None:
        watch = self.watch("--for", "3s")
        self.assertRegex(watch.out[0], r"^open: ssh, asked for until \S+Z$")
        never(lambda: len(self.granted()) < 2, 7, "a door shut")
        self.assertTrue(any(line.startswith("sent: renewal of ssh") for line in watch.out), watch.out)
        watch.process.send_signal(signal.SIGINT)
        self.assertEqual(watch.wait(), 0)
        self.assertRegex(watch.out[-1], r"^left: ssh stays open until \S+ at most; `spa-client close")
        eventually(lambda: not self.granted(), 10, "shut by itself")

    def test_close_shuts_it(self) -> None:
        watch = self.watch("--for", "1h", "--close")
        self.assertTrue(self.granted())
        watch.process.send_signal(signal.SIGTERM)
        self.assertEqual(watch.wait(), 0)
        self.assertEqual(watch.out[-1], "sent: close ssh")
        eventually(lambda: not self.granted(), 5, "shut")

    def test_another_address(self) -> None:
        watch = self.watch("--for", "1h")
        self.assertEqual(self.granted(), {f"{FRIEND[4]}/32", f"{FRIEND[6]}/128"})
        self.move(8)
        eventually(lambda: {"10.77.1.8/32", "fd77:1::8/128"} <= self.granted(), 10, "open for the new addresses")
        eventually(lambda: any("address changed: 10.77.1.8" in line for line in watch.out), 5)
        self.assert_opens(self.friend, GATEWAY[4], source="10.77.1.8")
        self.assert_opens(self.friend, GATEWAY[6], source="fd77:1::8")
        self.assertIsNone(watch.process.poll())

    def test_no_network_for_a_while(self) -> None:
        watch = self.watch("--for", "6s")
        run("ip", "-n", self.friend.name, "link", "set", "eth0", "down")
        eventually(lambda: any("trying again" in line for line in watch.err), 15, "said")
        run("ip", "-n", self.friend.name, "link", "set", "eth0", "up")
        self.move(8)
        eventually(lambda: "10.77.1.8/32" in self.granted(), 15, "open again")

    def test_events_for_a_script(self) -> None:
        watch = self.watch("--for", "3s", "--json")
        eventually(lambda: len(watch.out) >= 2, 10)
        watch.process.send_signal(signal.SIGINT)
        self.assertEqual(watch.wait(), 0)
        events = [json.loads(line) for line in watch.out]
        self.assertEqual([events[0]["event"], events[1]["event"], events[-1]["event"]], ["open", "renewed", "left"])
        self.assertEqual(set(events[0]), {"event", "services", "until", "remaining_s", "text"})

    def test_what_never_opened_is_said(self) -> None:
        self.gateway.stop()
        watch = self.start_client("watch", HOST_NAME, "ssh", "--timeout", "1s")
        self.assertEqual(watch.wait(20), 1)
        self.assertEqual(watch.out, [])
        self.assertIn("error: ssh did not open within 1s", watch.text())


if __name__ == "__main__":
    unittest.main()
