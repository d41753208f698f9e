"""Knocks work under a flood of junk, with one client and with many; what the idle daemon costs.

    SPA_BIN=target/release SPA_RATE=200000 SPA_MANY=100000 SPA_LONG=1 /usr/bin/python3 -m unittest -v test_flood

The figures are printed. SPA_RATE is the flood's rate, SPA_MANY the number of enrolled clients of the second scenario
(2000), SPA_LONG=1 measures the idle daemon for 60 s and holds it to its limits. Unless told, the flood is of 10,000
packets a second: as many as an unoptimised daemon judges on a slow machine that has the flood to make as well, so that
a knock lost is the daemon's fault and not the machine's. What a machine can bear at most is for the release build.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import unittest
from pathlib import Path

import harness
import spa1
from harness import FAMILIES, FRIEND, GATEWAY, HOST_NAME, KNOCK_PORT, Outside, Process, SystemTest, eventually

RATE = int(os.environ.get("SPA_RATE", "10000"))
MANY = int(os.environ.get("SPA_MANY", "2000"))
LONG = os.environ.get("SPA_LONG") == "1"
KNOCKS = 20
SENDINGS_S = (0.0, 0.5, 1.5)
SWITCHES_PER_SECOND = 3
RSS_ANON_KB = 12 * 1024
BYTES_PER_CLIENT = 400


def setUpModule() -> None:
    harness.require("gcc", "ssh-keygen")


def figure(text: str) -> None:
    print(f"    {text}", file=sys.stderr, flush=True)


class Flood(SystemTest):
    """20 of 20 knocks work while junk of a knock's length reaches the port."""

    def start_flood(self, family: int, seconds: int) -> Process:
        binary = self.network.folder / "flood"
        if not binary.exists():
            source = Path(__file__).with_name("flood.c")
            harness.run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, source, timeout=120)
        arguments = (GATEWAY[family], str(KNOCK_PORT), str(RATE), str(seconds))
        flood = Process(self.stranger.argv(binary, *arguments))
        self.addCleanup(flood.end)
        return flood

    def end_flood(self, flood: Process) -> None:
        flood.process.terminate()
        flood.wait()

    def junk_rate(self) -> float:
        """Packets a second that reach the gateway's interface, measured for a second."""
        first, begun = self.received_packets(), time.monotonic()
        time.sleep(1)  # the length of the measurement
        return (self.received_packets() - first) / (time.monotonic() - begun)

    def received_packets(self) -> int:
        line = self.gateway.host.run("grep", "stranger0:", "/proc/net/dev").stdout
        return int(line.split(":")[1].split()[1])

    def knocks_under_flood(self, knock: Outside, family: int) -> None:
        before = self.gateway.connection_entries()
        flood = self.start_flood(family, 110)
        rates = [self.junk_rate()]
        worked, waits = 0, []
        for number in range(KNOCKS):
            address = f"192.0.2.{number + 1}" if family == 4 else f"2001:db8::{number + 1:x}"
            begun = time.monotonic()
            if self.knock_until_seen(knock, family, address):
                worked += 1
                waits.append(time.monotonic() - begun)
        rates.append(self.junk_rate())
        self.assertIsNone(flood.process.poll(), f"the flood lasted to the end: {flood.text()}")
        grown = self.gateway.connection_entries() - before
        self.end_flood(flood)
        waits.sort()
        slowest = f"{1000 * waits[-1]:.0f} ms at most" if waits else ""
        median = f"median {1000 * waits[len(waits) // 2]:.0f} ms" if waits else ""
        reached = " and ".join(f"{rate:.0f}" for rate in rates)
        figure(f"IPv{family}: {worked} of {KNOCKS} knocks under {reached} packets/s, {median}, {slowest}")
        dropped = self.gateway.status()["dropped"]
        figure(f"IPv{family}: dropped {dropped}, connection entries grown by {grown}")
        self.assertEqual(worked, KNOCKS)
        self.assertLess(grown, 50, "connection-table entries do not grow with junk")

    def knock_until_seen(self, client: Outside, family: int, address: str) -> bool:
        """The manner of the client: three sendings, each a message of its own; the door is looked for in the set."""
        begun = time.monotonic()
        for number, at in enumerate(SENDINGS_S):
            client.open(self.friend, GATEWAY[family], address=address)
            until = SENDINGS_S[number + 1] if number + 1 < len(SENDINGS_S) else at + 1.0
            while time.monotonic() - begun < until:
                if address in self.gateway.entries(family=family):
                    return True
                time.sleep(0.005)
        return False

    def test_with_one_client(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        self.gateway.start()
        for family in FAMILIES:
            with self.subTest(family=family):
                self.knocks_under_flood(alice, family)

    def test_with_many_clients(self) -> None:
        clients = add_many(self.gateway, MANY)
        begun = time.monotonic()
        self.gateway.start(seconds=300)
        figure(f"{MANY} clients: ready after {time.monotonic() - begun:.1f} s")
        self.assertEqual(self.gateway.status()["clients"]["active"], MANY)
        for family, client in zip(FAMILIES, (clients[0], clients[-1]), strict=True):
            with self.subTest(family=family):
                self.knocks_under_flood(client, family)

    def test_our_client_under_flood(self) -> None:
        self.gateway.start()
        self.client("enroll", self.gateway.invite("alice"))
        eventually(lambda: self.enrolled("alice"))
        flood = self.start_flood(4, 60)
        eventually(lambda: self.gateway.refused("tag") > 1000, 5)
        begun = time.monotonic()
        for _ in range(5):
            self.client("open", HOST_NAME, "ssh", "--wait")
            self.assertTrue(self.sshd.runs(self.friend, GATEWAY[4]))
            self.client("close", HOST_NAME, "ssh")
            eventually(lambda: not self.gateway.entries(), 5)
        figure(f"spa-client: 5 of 5 opened, used and closed in {time.monotonic() - begun:.1f} s")
        self.end_flood(flood)

    def test_copies_of_a_knock(self) -> None:
        """A flood of exact copies costs no more than junk: another client gets through."""
        alice, bob = Outside.add(self.gateway, "alice"), Outside.add(self.gateway, "bob")
        self.gateway.start()
        datagram = alice.open(self.friend, GATEWAY[4])
        for _ in range(20):
            self.stranger.send(datagram, GATEWAY[4], times=1000)
        self.assertTrue(self.knock_until_seen(bob, 4, FRIEND[4]))
        eventually(lambda: self.gateway.status()["forwarded"] >= 1, 5)
        self.assertLess(len(self.gateway.log()), 100_000, "the log is rate-limited")


def add_many(gateway: harness.Gateway, count: int) -> list[Outside]:
    """Writes so many client files; the first and the last client."""
    ends: list[Outside] = []
    folder = gateway.dir / "clients.d"
    for number in range(count):
        client = Outside(harness.fresh_keys(gateway))
        public, psk = spa1.to_base64(client.keys.public), spa1.to_base64(client.keys.psk)
        text = f'public-key = "{public}"\npsk = "{psk}"\nservices = ["ssh"]\n'
        with os.fdopen(os.open(folder / f"client{number}.toml", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(text)
        if number in (0, count - 1):
            ends.append(client)
    return ends


class Idle(SystemTest):
    """What the daemon costs when nobody knocks."""

    with_sshd = False

    def threads(self) -> list[Path]:
        return list(Path(f"/proc/{self.gateway.running().pid}/task").glob("*/status"))

    def context_switches(self) -> int:
        found = (re.findall(r"ctxt_switches:\s+(\d+)", path.read_text()) for path in self.threads())
        return sum(int(number) for numbers in found for number in numbers)

    def rss_anon_kb(self) -> int:
        status = Path(f"/proc/{self.gateway.running().pid}/status").read_text()
        match = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert match
        return int(match[1])

    def children(self) -> list[str]:
        argv = ["ps", "--no-headers", "-o", "comm", "--ppid", str(self.gateway.running().pid)]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()

    def test_idle(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        self.gateway.start()
        alice.open(self.friend, GATEWAY[4], duration=3600)
        eventually(self.gateway.entries)
        self.barrier()
        seconds = 60 if LONG else 5
        first, begun = self.context_switches(), time.monotonic()
        while time.monotonic() - begun < seconds:
            self.assertEqual(self.children(), ["spa-firewall"], "no child process but this")
            time.sleep(1)  # the length of the measurement
        rate = (self.context_switches() - first) / (time.monotonic() - begun)
        memory = self.rss_anon_kb()
        figure(f"idle for {seconds} s: {rate:.2f} context switches/s, RssAnon {memory} kB with 1 client")
        if LONG:
            self.assertLessEqual(rate, SWITCHES_PER_SECOND)
            self.assertLess(memory, RSS_ANON_KB, "the capture ring is not part of RssAnon")

    def test_memory_of_clients_that_never_knocked(self) -> None:
        add_many(self.gateway, 1)
        self.gateway.start()
        alone = self.rss_anon_kb()
        self.gateway.stop()
        add_many(self.gateway, MANY)
        self.gateway.start(seconds=300)
        each = (self.rss_anon_kb() - alone) * 1024 / (MANY - 1)
        figure(f"{MANY} clients: {each:.0f} bytes of RssAnon for each further one")
        if LONG:
            self.assertLess(each, BYTES_PER_CLIENT)


if __name__ == "__main__":
    unittest.main()
