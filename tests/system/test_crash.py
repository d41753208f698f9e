"""What stands when the daemon dies, starts again, loses its memory, its disk or its interface."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import unittest
from collections.abc import Callable
from pathlib import Path

import harness
import spa1
from harness import (
    FAMILIES,
    FRIEND,
    GATEWAY,
    STRANGER,
    Outside,
    Service,
    SystemTest,
    eventually,
    never,
    server_toml,
)

WAIT_S = 600  # twice the greatest window for open and close
STRANGER_SIDE = "10.77.2.1"


def setUpModule() -> None:
    harness.require()


class Crash(SystemTest):
    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice")

    def open_door(self, duration: int, family: int = 4) -> bytes:
        datagram = self.alice.open(self.friend, GATEWAY[family], duration=duration)
        self.assert_opens(self.friend, GATEWAY[family])
        return datagram


class Killed(Crash):

    def test_a_restart_keeps_the_grants_of_this_boot(self) -> None:
        self.gateway.start()
        self.open_door(100)
        before = self.gateway.entries()[FRIEND[4]]
        self.gateway.kill9()
        self.gateway.start()
        (grant,) = self.gateway.grants()
        self.assertEqual((grant["client"], grant["address"], grant["service"]), ("alice", FRIEND[4], "ssh"))
        self.assertTrue(80 < grant["remaining_s"] <= 100, grant)
        self.assertTrue(80 < self.gateway.entries()[FRIEND[4]] <= before)
        self.assertTrue(self.friend.is_open(GATEWAY[4]))

    def test_a_restart_puts_back_what_is_missing(self) -> None:
        self.gateway.start()
        self.open_door(100)
        self.gateway.kill9()
        self.gateway.flush_set("spa4-ssh")
        self.gateway.start()
        self.assertEqual(list(self.gateway.entries()), [FRIEND[4]])
        self.assertLessEqual(self.gateway.entries()[FRIEND[4]], 100)

    def test_a_restart_takes_out_what_no_grant_accounts_for(self) -> None:
        self.gateway.start()
        self.open_door(100)
        self.gateway.kill9()
        for family in FAMILIES:
            self.gateway.put_entry(f"spa{family}-ssh", STRANGER[family], 300)
            self.assertTrue(self.stranger.is_open(GATEWAY[family]))
        self.gateway.start()
        self.assertEqual(list(self.gateway.entries()), [FRIEND[4]])
        self.assert_shut(self.stranger)

    def test_a_door_that_ended_meanwhile_stays_shut(self) -> None:
        self.gateway.start()
        self.open_door(2)
        self.gateway.kill9()
        eventually(lambda: not self.gateway.entries(), 4)
        self.gateway.start()
        self.assert_nothing_open()

    def test_what_a_door_let_in_is_cut_when_it_ended_meanwhile(self) -> None:
        self.sshd.remove()
        self.gateway.configure(server_toml(Service(at_end="cut")))
        self.gateway.start()
        with self.gateway.host.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", 22))
            server.listen()
            self.open_door(2)
            server.accept()[0].close()
            with self.friend.socket(socket.AF_INET, socket.SOCK_STREAM) as inside:
                inside.settimeout(3)
                inside.connect((GATEWAY[4], 22))
                peer, _ = server.accept()
                self.gateway.kill9()
                eventually(lambda: not self.gateway.entries(), 4)
                self.gateway.start()
                with peer, self.assertRaises(OSError):
                    inside.sendall(b"x")
                    inside.recv(1)

    def test_grants_of_another_boot_are_not_opened_again(self) -> None:
        self.gateway.start()
        self.open_door(200)
        self.gateway.kill9()
        other = self.network.folder / "boot_id"
        other.write_text("00000000-1111-4222-8333-444444444444\n")
        self.gateway.start(bind={"/proc/sys/kernel/random/boot_id": other})
        self.assert_nothing_open()

    def test_a_close_holds_after_kill_9(self) -> None:
        self.gateway.start()
        held = spa1.seal(self.alice.keys, self.alice.payload())
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.status()["accepted"]["close"] == 1)
        self.gateway.kill9()
        self.gateway.start()
        with self.refusing("older"):
            self.friend.send(held, GATEWAY[4])

    def test_a_killed_daemon_hides_the_port_still(self) -> None:
        self.gateway.start()
        self.gateway.kill9()
        self.assert_shut()
        self.assert_shut(self.stranger)


class Record(Crash):
    """The replay record is not there, not whole, or cannot be written."""

    def state_files(self) -> list[Path]:
        files = [path for path in (self.gateway.dir / "state").rglob("*") if path.is_file() and path.name != "lock"]
        self.assertTrue(files, "the record is a file in state/")
        return files

    def assert_waits(self) -> None:
        record = self.gateway.status()["record"]
        self.assertEqual(record["state"], "waiting", record)
        self.assertTrue(0 < record["ready_in_s"] <= WAIT_S, record)
        with self.refusing("record"):
            self.alice.open(self.friend, GATEWAY[4])
        self.assertRegex(self.gateway.log(), r"(?i)record")

    def test_a_new_gateway_begins_at_once(self) -> None:
        self.gateway.start()
        record = self.gateway.status()["record"]
        self.assertEqual(record["state"], "ok")
        self.assertIn(record["ready_in_s"], (0, None))

    def test_missing(self) -> None:
        self.gateway.start()
        datagram = self.open_door(1)
        eventually(lambda: not self.gateway.entries(), 4)
        self.gateway.stop()
        for path in self.state_files():
            path.unlink()
        self.gateway.start()
        self.assert_waits()
        self.friend.send(datagram, GATEWAY[4])
        self.barrier()
        self.assert_nothing_open()
        self.gateway.restart()
        self.assertEqual(self.gateway.status()["record"]["state"], "waiting", "a restart does not end the wait")

    def test_damaged(self) -> None:
        self.gateway.start()
        self.open_door(1)
        eventually(lambda: not self.gateway.entries(), 4)
        self.gateway.stop()
        for path in self.state_files():
            size = max(path.stat().st_size, 64)
            path.write_bytes(secrets.token_bytes(size))
        self.gateway.start()
        self.assert_waits()

    def test_a_torn_end_loses_no_older_entry(self) -> None:
        """What a crash may leave, a last write cut short, is mended or waited for; never a replay accepted."""
        self.gateway.start()
        datagram = self.open_door(1)
        eventually(lambda: not self.gateway.entries(), 4)
        self.gateway.kill9()
        for path in self.state_files():
            with path.open("r+b") as file:
                file.truncate(max(path.stat().st_size - 3, 0))
        self.gateway.start()
        with self.refusing("replay", "copy", "record"):
            self.friend.send(datagram, GATEWAY[4])

    def test_a_full_disk(self) -> None:
        state = self.gateway.dir / "state"
        self.mount_small(state)
        clients = [Outside.add(self.gateway, f"client{number}") for number in range(8)]
        self.gateway.start()
        self.fill(state / "filler")
        sent: list[bytes] = []
        for number in range(40 * len(clients)):
            sent.append(clients[number % len(clients)].open(self.friend, GATEWAY[4], duration=600))
            if number % 20 == 19 and self.gateway.refused("record"):
                break
        eventually(lambda: self.gateway.refused("record"), 5, "a knock that could not be recorded")
        self.assertEqual(self.gateway.status()["record"]["state"], "failing")
        self.assertRegex(self.gateway.log(), r"(?i)no space|full|ENOSPC")
        self.gateway.control("close", "--address", FRIEND[4])
        eventually(lambda: not self.gateway.entries(), what="closing works on a full disk")
        opened = self.gateway.status()["accepted"]["open"]
        self.alice.open(self.friend, GATEWAY[4])
        self.barrier()
        self.assertEqual(self.gateway.status()["accepted"]["open"], opened)
        self.assert_nothing_open()
        (state / "filler").unlink()
        self.gateway.kill9()
        self.gateway.start()
        for datagram in sent[:opened]:
            self.friend.send(datagram, GATEWAY[4])
        self.barrier()
        self.assertEqual(self.gateway.status()["accepted"]["open"], 0, "whatever opened was recorded")

    def test_a_full_disk_that_is_freed(self) -> None:
        state = self.gateway.dir / "state"
        self.mount_small(state)
        self.gateway.start()
        self.fill(state / "filler")
        for _ in range(40):
            self.alice.open(self.friend, GATEWAY[4], duration=1)
        self.barrier()
        (state / "filler").unlink()
        bob = Outside.add(self.gateway, "bob")

        def opens() -> bool:
            bob.open(self.friend, GATEWAY[6])
            return self.friend.is_open(GATEWAY[6])

        eventually(opens, 10, "works again by itself")

    def test_a_close_holds_on_a_full_disk_and_after_it(self) -> None:
        self.close_on_a_full_disk(lambda: self.alice.close(self.friend, GATEWAY[4]))

    def test_a_close_by_command_holds_on_a_full_disk_and_after_it(self) -> None:
        self.close_on_a_full_disk(lambda: self.gateway.control("close", "alice"))

    def close_on_a_full_disk(self, close: Callable[[], object]) -> None:
        state = self.gateway.dir / "state"
        self.mount_small(state)
        self.gateway.start()
        self.open_door(200)
        self.fill(state / "filler")
        close()
        eventually(lambda: not self.gateway.entries(), what="shut, recorded or not")
        self.assertEqual(self.gateway.grants(), [])
        (state / "filler").unlink()
        eventually(lambda: self.gateway.status()["record"]["state"] == "ok", 8, "recorded later")
        self.gateway.kill9()
        self.gateway.start()
        self.assert_nothing_open()


class StateMode(Crash):
    def test_a_record_that_others_may_write_ends_with_78_and_what_to_type(self) -> None:
        state = self.gateway.dir / "state"
        record = state / "record.redb"
        wrong = [(record, 0o644, 0o600, f"chmod 600 {record}"), (state, 0o755, 0o700, f"chmod 700 {state}")]
        for path, mode, right, remedy in wrong:
            with self.subTest(path.name):
                path.chmod(mode)
                done = self.gateway.control("run", check=False)
                self.assertEqual((done.returncode, done.stdout), (78, ""))
                self.assertIn(remedy, done.stderr)
                path.chmod(right)
        os.chown(record, 65534, -1)
        done = self.gateway.control("run", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn(f"chown root {record}", done.stderr)
        os.chown(record, 0, -1)
        self.gateway.start()
        self.open_door(10)


class Stop(Crash):
    def test_sigterm_ends_with_0_and_keeps_doors(self) -> None:
        self.gateway.start()
        self.open_door(100)
        self.assertEqual(self.gateway.stop(), 0)
        self.assertTrue(self.friend.is_open(GATEWAY[4]), "keep-doors is the default")
        self.assert_shut(self.stranger)
        self.gateway.start()
        self.assertEqual([grant["address"] for grant in self.gateway.grants()], [FRIEND[4]])

    def test_sigint_ends_it_too(self) -> None:
        self.gateway.start()
        self.assertEqual(self.gateway.stop(signal.SIGINT), 0)

    def test_a_second_daemon_ends_with_1(self) -> None:
        self.gateway.start()
        second = self.gateway.control("run", check=False)
        self.assertEqual((second.returncode, second.stdout), (1, ""), second.stderr)
        self.assertRegex(second.stderr, r"(?i)run|lock|already")
        self.open_door(10)


class Reload(Crash):
    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()

    def config_state(self) -> str:
        return str(self.gateway.status()["config"]["state"])

    def test_a_bad_file_leaves_the_old_running(self) -> None:
        self.open_door(100)
        for text in ("[gateway\n", server_toml() + "[nonsense]\n", server_toml(Service(duration="soon"))):
            with self.subTest(text=text[-30:]):
                self.gateway.configure(server_toml())
                self.gateway.reload()
                eventually(lambda: self.config_state() == "current", 5)
                self.gateway.configure(text)
                self.gateway.reload()
                eventually(lambda: self.config_state() == "rejected", 5)
                self.assertTrue(self.gateway.status()["config"]["note"])
                self.assertTrue(self.friend.is_open(GATEWAY[4]))
                self.assert_shut(self.stranger)
        self.alice.open(self.friend, GATEWAY[6])
        self.assert_opens(self.friend, GATEWAY[6])

    def test_a_changed_file_is_not_loaded_unasked(self) -> None:
        self.assertEqual(self.config_state(), "current")
        self.gateway.configure(server_toml(Service(duration="77s"), Service("db", ["tcp/5432"])))
        eventually(lambda: self.config_state() == "changed", 5)
        self.alice.open(self.friend, GATEWAY[4])
        eventually(lambda: 0 < self.gateway.entries().get(FRIEND[4], 0) <= 30)

    def test_a_good_file_is_loaded_and_doors_stay(self) -> None:
        self.open_door(100)
        self.gateway.configure(server_toml(Service(duration="77s"), Service("web", ["tcp/8080"])))
        self.gateway.reload()
        eventually(lambda: "web" in str(self.gateway.control_json("check")["hidden"]), 5)
        eventually(lambda: self.gateway.rules().count("spa4-web"), 5, "the new service is protected")
        self.assertTrue(self.friend.is_open(GATEWAY[4]), "the open door stays")
        self.alice.open(self.stranger, GATEWAY[4])
        eventually(lambda: 60 < self.gateway.entries().get(STRANGER[4], 0) <= 77)

    def test_another_knock_port(self) -> None:
        self.gateway.configure(server_toml(ports=[7007]))
        self.gateway.reload()
        eventually(lambda: self.config_state() == "current", 5)

        def opens() -> bool:
            self.friend.send(spa1.seal(self.alice.keys, self.alice.payload()), GATEWAY[4], 7007)
            return self.friend.is_open(GATEWAY[4])

        eventually(opens, 5, "the new port is listened to")


class Interfaces(Crash):
    def interface_state(self, name: str = "friend0") -> str | None:
        interfaces = self.gateway.status()["interfaces"]
        return next((interface["state"] for interface in interfaces if interface["name"] == name), None)

    def knock_works(self) -> None:
        def opens() -> bool:
            self.alice.open(self.friend, GATEWAY[4])
            return self.friend.is_open(GATEWAY[4])

        eventually(opens, 8, "a knock works")

    def test_missing_at_the_start_it_is_waited_for(self) -> None:
        self.gateway.configure(server_toml(interfaces=["friend0", "stranger0"]))
        self.network.unlink("friend")
        self.gateway.start()
        self.assertEqual(self.interface_state(), "waiting")
        self.assertEqual(self.interface_state("stranger0"), "up")
        self.alice.open(self.stranger, STRANGER_SIDE)
        self.assert_opens(self.stranger, STRANGER_SIDE)
        self.network.link("friend")
        eventually(lambda: self.interface_state() == "up", 10)
        self.knock_works()

    def test_gone_and_back_it_is_opened_again(self) -> None:
        self.gateway.configure(server_toml(interfaces=["friend0"]))
        self.gateway.start()
        self.assertEqual(self.interface_state(), "up")
        self.network.unlink("friend")
        eventually(lambda: self.interface_state() == "waiting", 10)
        never(lambda: self.gateway.running().process.poll() is not None, 1, "the daemon exits")
        self.network.link("friend")
        eventually(lambda: self.interface_state() == "up", 10)
        self.knock_works()

    def test_down_and_up(self) -> None:
        self.gateway.configure(server_toml(interfaces=["friend0"]))
        self.gateway.start()
        harness.run("ip", "-n", self.gateway.host.name, "link", "set", "friend0", "down")
        eventually(lambda: self.interface_state() == "waiting", 10)
        harness.run("ip", "-n", self.gateway.host.name, "link", "set", "friend0", "up")
        eventually(lambda: self.interface_state() == "up", 10)
        self.knock_works()

    def test_any_sees_an_interface_that_came_later(self) -> None:
        self.network.unlink("friend")
        self.gateway.start()
        self.network.link("friend")
        self.knock_works()

    def test_never_promiscuous(self) -> None:
        self.gateway.configure(server_toml(interfaces=["friend0"]))
        self.gateway.start()
        shown = harness.run("ip", "-n", self.gateway.host.name, "-d", "link", "show", "dev", "friend0").stdout
        self.assertRegex(shown, r"promiscuity 0\b")


if __name__ == "__main__":
    unittest.main()
