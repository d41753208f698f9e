"""What the service manager hears, and what becomes of a daemon that it looks after."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import unittest
from pathlib import Path
from typing import Any

import harness
from harness import BIN, FAMILIES, FRIEND, GATEWAY, Host, Outside, Process, SystemTest, eventually, never, server_toml

SUPERVISOR = Path(__file__).with_name("supervisor.py")
# What an operations team is promised, from the end of one daemon to `ready` of the next.
BACK_WITHIN_S = 2.0


def setUpModule() -> None:
    harness.require()


class Manager:
    """A datagram socket in the place of the service manager's."""

    def __init__(self, host: Host, address: str) -> None:
        # Abstract names belong to a network namespace.
        self.socket = host.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def lines(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def beats(self) -> int:
        return self.lines().count("WATCHDOG=1")

    def last_status(self) -> str:
        return next((line for line in reversed(self.lines()) if line.startswith("STATUS=")), "")


class Notified(SystemTest):
    with_sshd = False

    def manager(self, address: str = "") -> Manager:
        address = address or str(self.network.folder / "notify")
        manager = Manager(self.gateway.host, address)
        self.addCleanup(manager.socket.close)
        self.gateway.wrapper = ("env", f"NOTIFY_SOCKET={address}", "WATCHDOG_USEC=600000")
        return manager

    def daemon_pid(self) -> int:
        return int(self.gateway.status()["pid"])


class Messages(Notified):
    def test_ready_is_said_when_it_is_ready_and_never_before(self) -> None:
        manager = self.manager()
        self.gateway.start()
        lines = eventually(lambda: manager.lines() and manager.lines(), 2, "a message")
        self.assertEqual(lines[0], "READY=1")
        self.assertEqual(manager.last_status(), "STATUS=open doors: 0, accepted knocks: 0")

    def test_an_abstract_socket_is_understood(self) -> None:
        manager = self.manager(f"@spa-test-{os.getpid()}-{time.monotonic_ns()}")
        self.gateway.start()
        eventually(lambda: "READY=1" in manager.lines(), 2, "READY=1")

    def test_the_watchdog_is_fed_by_the_loop_and_not_by_a_frozen_one(self) -> None:
        manager = self.manager()
        self.gateway.start()
        begun, before = time.monotonic(), manager.beats()
        eventually(lambda: manager.beats() >= before + 5, 10, "five signs of life")
        # A third of the time that the manager waits: 0.2 s each.
        self.assertGreater(time.monotonic() - begun, 0.5, "beats are not sent in a rush")
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text(), 5, "stopped")
            frozen = manager.beats()
            never(lambda: manager.beats() > frozen, 1.0, "a frozen daemon shows signs of life")
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: manager.beats() > frozen, 5, "signs of life again")

    def test_a_reload_is_announced_and_ended_whether_the_file_is_good_or_not(self) -> None:
        manager = self.manager()
        self.gateway.start()
        for toml in (server_toml(keep_doors=False), "nonsense"):
            manager.lines().clear()
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self.gateway.configure(toml)
            self.gateway.reload()
            eventually(lambda: "READY=1" in manager.lines(), 5, "READY=1 after a reload")
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            told = [line for line in manager.lines() if not line.startswith(("WATCHDOG", "STATUS"))]
            self.assertEqual((told[0], told[2]), ("RELOADING=1", "READY=1"), told)
            name, _, usec = told[1].partition("=")
            self.assertEqual(name, "MONOTONIC_USEC")
            self.assertTrue(before <= int(usec) <= after, (before, usec, after))

    def test_a_stop_is_announced(self) -> None:
        manager = self.manager()
        self.gateway.start()
        self.assertEqual(self.gateway.stop(), 0)
        self.assertIn("STOPPING=1", manager.lines())
        self.assertEqual(manager.last_status(), "STATUS=stopping")

    def test_deaf_is_reported_and_is_no_reason_to_restart(self) -> None:
        self.gateway.configure(server_toml(interfaces=["friend0"]))
        manager = self.manager()
        self.gateway.start()
        self.network.unlink("friend")
        eventually(lambda: manager.last_status() == "STATUS=deaf: waiting for friend0", 10, "deaf")
        before = manager.beats()
        eventually(lambda: manager.beats() > before, 5, "it works all the same")
        self.network.link("friend")
        eventually(lambda: manager.last_status().startswith("STATUS=open doors"), 10, "captured again")

    def test_the_number_of_doors_is_told(self) -> None:
        manager = self.manager()
        self.gateway.start()
        alice = Outside.add(self.gateway, "alice")
        alice.open(self.friend, GATEWAY[4], duration=60)
        eventually(lambda: manager.last_status() == "STATUS=open doors: 1, accepted knocks: 1", 10, "one door")

    def test_a_manager_that_is_gone_or_was_never_there_stops_nothing(self) -> None:
        manager = self.manager()
        self.gateway.start()
        eventually(lambda: "READY=1" in manager.lines(), 2, "READY=1")
        manager.socket.close()
        self.gateway.reload()
        eventually(lambda: "the new configuration is in force" in self.gateway.log(), 5, "reload")
        self.assertEqual(self.gateway.stop(), 0)
        self.gateway.wrapper = ("env", f"NOTIFY_SOCKET={self.network.folder}/nowhere")
        self.gateway.start()
        self.assertIn("the service manager cannot be told anything", self.gateway.log())

    def test_a_refused_start_is_never_ready(self) -> None:
        manager = self.manager()
        self.gateway.configure("nonsense")
        self.gateway.start(ready=False)
        self.assertEqual(self.gateway.running().wait(), 78)
        self.assertNotIn("READY=1", manager.lines())


class UnderSupervision(Notified):
    """A daemon that somebody looks after, who is held to what he stands for too."""

    restart_after = 0.1

    def toml(self) -> str:
        return server_toml()

    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice")
        self.gateway.configure(self.toml())
        options = ["--watchdog", "1.5", "--restart-after", str(self.restart_after), "--dir", self.gateway.dir]
        argv = [sys.executable, SUPERVISOR, *options, BIN / "spa-server"]
        self.supervisor = Process(self.gateway.host.argv(*argv))
        self.addCleanup(self.stop)
        self.pid = self.wait_for("ready")["pid"]

    def stop(self) -> None:
        # SIGTERM first: what it has started is its own to end.
        if self.supervisor.process.poll() is None:
            self.supervisor.process.terminate()
            self.supervisor.wait(70)
        self.supervisor.end()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.supervisor.out)]

    def wait_for(self, event: str, after: int = 0, seconds: float = 20) -> dict[str, Any]:
        def look() -> list[dict[str, Any]]:
            return [found for found in self.events()[after:] if found["event"] == event]

        try:
            return eventually(look, seconds, event)[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.supervisor.out}\n{self.supervisor.text()}") from None

    def back_after(self, number: int) -> float:
        """How long nobody judged knocks after this signal to the main process."""
        seen = len(self.events())
        os.kill(self.pid, number)
        ended = self.wait_for("ended", seen)
        ready = self.wait_for("ready", seen)
        self.assertNotEqual(ready["pid"], self.pid)
        self.pid = ready["pid"]
        return float(ready["at"] - ended["at"])


class Restarts(UnderSupervision):
    def test_it_is_back_within_two_seconds_with_its_doors(self) -> None:
        self.alice.open(self.friend, GATEWAY[4], duration=100)
        eventually(self.gateway.grants, 5, "a grant")
        for number in (signal.SIGKILL, signal.SIGABRT):
            with self.subTest(number.name):
                self.assertLess(self.back_after(number), BACK_WITHIN_S)
                self.assertEqual([grant["client"] for grant in self.gateway.grants()], ["alice"])
                self.assertEqual(list(self.gateway.entries()), [FRIEND[4]])
                self.assertEqual(self.supervisor.text().count("panicked"), 0)

    def test_a_frozen_daemon_is_killed_and_started_again(self) -> None:
        seen = len(self.events())
        os.kill(self.pid, signal.SIGSTOP)
        missed = self.wait_for("watchdog", seen)
        self.assertEqual(missed["pid"], self.pid)
        ready = self.wait_for("ready", seen)
        self.assertNotEqual(ready["pid"], self.pid)
        self.assertLess(ready["at"] - missed["at"], BACK_WITHIN_S)
        for family in FAMILIES:
            self.alice.open(self.friend, GATEWAY[family])
        eventually(lambda: len(self.gateway.grants()) == 2, 5, "knocks work again")

    def test_it_gives_up_only_where_a_person_must_mend_something(self) -> None:
        self.gateway.configure("nonsense")
        os.kill(self.pid, signal.SIGKILL)
        self.assertEqual(self.supervisor.wait(20), 78)
        self.assertEqual([found["code"] for found in self.events() if found["event"] == "ended"], [-9, 78])

    def test_a_stop_is_no_reason_to_start_again(self) -> None:
        seen = len(self.events())
        self.supervisor.process.terminate()
        self.assertEqual(self.supervisor.wait(20), 0)
        self.assertEqual([found["code"] for found in self.events()[seen:] if found["event"] == "ended"], [0])
        self.assertNotIn("started", [found["event"] for found in self.events()[seen:]])


class NoRestart(UnderSupervision):
    """The daemon stays away: what no kernel ends is closed all the same."""

    restart_after = 60

    def toml(self) -> str:
        self.note = self.network.folder / "note"
        service = '[[service]]\nname = "note"\nbackends = ["command"]\n'
        command = f'open = ["/usr/bin/touch", "{self.note}"]\nclose = ["/usr/bin/rm", "{self.note}"]\n'
        return server_toml() + service + command

    def test_a_command_s_door_is_closed_in_time(self) -> None:
        bob = Outside.add(self.gateway, "bob", ["note"])
        bob.open(self.friend, GATEWAY[4], "note", duration=3)
        eventually(self.note.exists, 5, "opened")
        os.kill(self.pid, signal.SIGKILL)
        self.wait_for("ended")
        self.assertTrue(self.note.exists(), "its time is not over")
        eventually(lambda: not self.note.exists(), 15, "closed without a daemon")
        self.assertEqual(self.wait_for("closed")["code"], 0)
        self.assertEqual([found["event"] for found in self.events()].count("started"), 1)


if __name__ == "__main__":
    unittest.main()
