"""What becomes of clients and their gateway: many devices for one invite, rotation, moving, disks that are full."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import subprocess
import unittest
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import harness
import spa1
from harness import FRIEND, GATEWAY, Outside, SystemTest, eventually

WAIT_S = 600  # twice the greatest window for open and close


def setUpModule() -> None:
    harness.require()


class Keys(SystemTest):
    with_sshd = False

    def enroll(self, text: str, name: str) -> Outside:
        """A device that enrolls by an invite; its keys for the identity in it."""
        invited, made = spa1.parse_invite(text).keys, harness.fresh_keys(self.gateway)
        device = spa1.ClientKeys(invited.gateway_public, invited.hmac_key, made.private, made.psk)
        self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])
        eventually(lambda: self.enrolled(name), what=f"{name} enrolled")
        return Outside(device)

    def opens(self, client: Outside, name: str) -> None:
        """It can open its door, now."""

        def granted() -> bool:
            return any(grant["client"] == name for grant in self.gateway.grants())

        client.open(self.friend, GATEWAY[4])
        eventually(granted, what=f"{name} opens")
        client.close(self.friend, GATEWAY[4])
        eventually(lambda: not granted(), what=f"{name} closes")


class Race(Keys):
    def test_one_of_fifty_wins_and_the_others_are_reported(self) -> None:
        self.gateway.start()
        text = self.gateway.invite("bob")
        devices = [harness.fresh_keys(self.gateway) for _ in range(50)]
        datagrams = [harness.enroll_datagram(text, device) for device in devices]
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(lambda datagram: self.friend.send(datagram, GATEWAY[4]), datagrams))
        eventually(lambda: self.gateway.refused("enroll", "rate") == 49, 10, "49 of 50 refused")
        self.assertEqual(self.gateway.status()["accepted"]["enroll"], 1)
        (client,) = self.gateway.keys_json("list")["clients"]
        self.assertEqual(sum(client["public_key"] == spa1.to_base64(device.public) for device in devices), 1)
        refused = sum(entry["count"] for entry in self.gateway.explained(200) if entry["reason"] in ("enroll", "rate"))
        self.assertEqual(refused, 49)
        self.assertRegex(self.gateway.log(), f"two devices used one invite.*{FRIEND[4]}.*{FRIEND[4]}")


class Rotation(Keys):
    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()
        self.old = self.gateway.status()["gateway"][0]
        self.clients = {name: self.enroll(self.gateway.invite(name), name) for name in ("alice", "bob", "carol")}
        self.out = self.network.folder / "invites"

    def rotate(self) -> None:
        facts = self.gateway.keys_json("gateway", "rotate", "--out", str(self.out))
        self.assertEqual([invite["name"] for invite in facts["invites"]], ["alice.2", "bob.2", "carol.2"])
        self.assertEqual(self.gateway.status()["gateway"], [self.old, facts["identity"]], "live at once")

    def move(self, name: str) -> None:
        self.clients[f"{name}.2"] = self.enroll((self.out / f"{name}.2.txt").read_text().strip(), f"{name}.2")

    def progress(self) -> dict[str, str]:
        facts = self.gateway.keys_json("gateway", "rotate", "--status")
        return {client["name"]: client["progress"] for client in facts["clients"]}

    def drop(self, *options: str) -> harness.Done:
        return self.gateway.keys("gateway", "drop", self.old, *options, check=False)

    def everybody_opens(self, names: Iterable[str]) -> None:
        for name in names:
            self.opens(self.clients[name], name)

    def test_three_clients_one_lagging(self) -> None:
        first = ("alice", "bob", "carol")
        self.everybody_opens(first)
        self.rotate()
        self.everybody_opens(first)
        self.assertEqual(set(self.progress().values()), {"invited"})
        for name in ("alice", "bob"):
            self.move(name)
        self.everybody_opens((*first, "alice.2", "bob.2"))
        self.assertEqual(
            self.progress(),
            {"alice": "replaced", "alice.2": "moved", "bob": "replaced", "bob.2": "moved", "carol": "invited"},
        )
        refused = self.drop()
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertRegex(refused.stderr, "carol has used it")
        self.assertNotRegex(refused.stderr, "(alice|bob) has used it")
        self.gateway.restart()
        self.everybody_opens((*first, "alice.2", "bob.2"))
        self.move("carol")
        self.assertEqual(self.drop().returncode, 1, "carol.2 has not knocked yet")
        self.everybody_opens((*first, "alice.2", "bob.2", "carol.2"))
        self.assertEqual(self.drop("--remove-replaced").returncode, 0)
        self.assertEqual(len(self.gateway.status()["gateway"]), 1, "gone at once")
        self.everybody_opens(("alice.2", "bob.2", "carol.2"))
        names = [client["name"] for client in self.gateway.keys_json("list")["clients"]]
        self.assertEqual(names, ["alice.2", "bob.2", "carol.2"])
        before = self.gateway.refused("tag")
        self.clients["alice"].open(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.refused("tag") > before, what="the old identity is gone")
        self.assertEqual(self.gateway.grants(), [])

    def test_the_lagging_one_is_shut_out_only_by_force(self) -> None:
        self.rotate()
        for name in ("alice", "bob"):
            self.move(name)
            self.opens(self.clients[f"{name}.2"], f"{name}.2")
        self.assertEqual(self.drop().returncode, 1)
        self.opens(self.clients["carol"], "carol")
        forced = self.drop("--force")
        self.assertEqual(forced.returncode, 0)
        self.assertRegex(forced.stdout, "carol is shut out")
        self.move("carol")
        self.opens(self.clients["carol.2"], "carol.2")

    def test_renamed_with_its_door_open(self) -> None:
        self.clients["alice"].open(self.friend, GATEWAY[4], duration=300)
        eventually(lambda: [grant["client"] for grant in self.gateway.grants()] == ["alice"])
        self.gateway.keys("rename", "alice", "anna")
        eventually(lambda: [grant["client"] for grant in self.gateway.grants()] == ["anna"], 2, "the door stays")
        (grant,) = self.gateway.grants()
        self.assertGreater(grant["remaining_s"], 200)
        self.opens(self.clients["alice"], "anna")


class Moving(Keys):
    def test_a_gateway_from_a_backup_replays_nothing(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        self.gateway.start()
        file = self.network.folder / "gateway.backup"
        self.gateway.keys("backup", str(file))
        accepted = alice.open(self.friend, GATEWAY[4], duration=1)
        eventually(lambda: self.gateway.status()["accepted"]["open"] == 1)
        eventually(lambda: not self.gateway.grants())
        self.gateway.stop()
        again = self.gateway.control("restore", str(file), check=False)
        self.assertEqual((again.returncode, again.stdout), (1, ""), "never over a gateway")
        shutil.rmtree(self.gateway.dir)
        restored = harness.as_object(self.gateway.control("restore", str(file), "--json").stdout)
        self.assertEqual((restored["clients"], restored["wait_s"]), (1, WAIT_S))
        for path, mode in (("gateway.key", 0o600), ("server.toml", 0o640), ("clients.d", 0o700), ("state", 0o700)):
            self.assertEqual((self.gateway.dir / path).stat().st_mode & 0o7777, mode, path)
        for _ in range(2):
            self.gateway.start()
            self.assertEqual(self.gateway.status()["record"]["state"], "waiting")
            with self.refusing("record", "copy"):
                self.friend.send(accepted, GATEWAY[4])
            with self.refusing("record"):
                alice.open(self.friend, GATEWAY[4])
            self.gateway.stop()

    def test_a_backup_that_is_not_whole_makes_nothing(self) -> None:
        file = self.network.folder / "gateway.backup"
        self.gateway.keys("backup", str(file))
        text = file.read_text()
        shutil.rmtree(self.gateway.dir)
        for changed in (text[:-10], text.replace("gateway.key", "gateway.kex", 1), text[: len(text) // 2], ""):
            file.write_text(changed)
            refused = self.gateway.control("restore", str(file), check=False)
            self.assertEqual((refused.returncode, refused.stdout), (78, ""), refused.stderr)
            self.assertFalse(self.gateway.dir.exists())

    def test_a_record_is_reset_in_a_running_daemon(self) -> None:
        alice, bob = (Outside.add(self.gateway, name) for name in ("alice", "bob"))
        self.gateway.start()
        sent = {}
        for name, client in (("alice", alice), ("bob", bob)):
            payload = client.payload()  # one timestamp, sealed twice: no exact copy
            self.friend.send(spa1.seal(client.keys, payload), GATEWAY[4])
            sent[name] = spa1.seal(client.keys, payload)
        eventually(lambda: self.gateway.status()["accepted"]["open"] == 2)
        self.gateway.keys("reset-replay", "alice", "--yes")
        with self.refusing("replay", nothing_open=False):
            self.friend.send(sent["bob"], GATEWAY[4])
        self.friend.send(sent["alice"], GATEWAY[4])
        eventually(lambda: self.gateway.status()["accepted"]["open"] == 3, what="alice's record is forgotten")


class Sweep(Keys):
    def test_invites_long_over_are_forgotten_and_others_are_not(self) -> None:
        for name, days in (("long-ago", 3), ("lately", 1)):
            self.gateway.invite(name)
            (file,) = (self.gateway.dir / "invites.d").glob(f"{name}@*.toml")
            ended = datetime.now(UTC) - timedelta(days=days)
            text = re.sub(r'ends = ".*"', f'ends = "{ended:%Y-%m-%dT%H:%M:%SZ}"', file.read_text())
            file.write_text(text)
        self.gateway.start()

        def names() -> list[str]:
            return [invite["name"] for invite in self.gateway.keys_json("list")["invites"]]

        self.assertIn("lately", names())
        eventually(lambda: names() == ["lately"], 6, "the older one is forgotten")


class FullDisk(Keys):
    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice")
        self.folder = self.gateway.dir / "clients.d"
        self.gateway.keys("list")
        self.mount_small(self.folder, "256k")
        self.filler = self.folder / "filler"

    def listing(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name != ".lock")

    def test_commands_leave_the_old_file_whole(self) -> None:
        self.gateway.keys("set", "alice", "--label", "before")
        self.fill(self.filler)
        before = {path.name: path.read_bytes() for path in self.folder.glob("*.toml")}
        for command in (
            ("set", "alice", "--label", "after"),
            ("revoke", "alice"),
            ("add", "bob", "--public-key", spa1.to_base64(harness.fresh_keys(self.gateway).public), "--services", "ssh"),
        ):
            more = ("--psk-file", "-") if command[0] == "add" else ()
            psk = spa1.to_base64(self.alice.keys.psk)
            done = self.gateway.keys(*command, *more, check=False, stdin=psk)
            self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
            self.assertRegex(done.stderr, "(?i)no space")
            self.assertEqual({path.name: path.read_bytes() for path in self.folder.glob("*.toml")}, before)
            self.assertEqual(self.listing(), ["alice.toml", "filler"], "no draft is left")

    def test_an_enrollment_that_could_not_be_written_is_made_good(self) -> None:
        self.gateway.start()
        text = self.gateway.invite("bob")
        device = harness.fresh_keys(self.gateway)
        self.fill(self.filler)
        self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])
        eventually(lambda: "could not be written" in self.gateway.log(), what="it says so")
        self.assertEqual(self.listing(), ["alice.toml", "filler"])
        self.filler.unlink()
        self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])
        eventually(lambda: self.enrolled("bob"), what="the repeat makes it good")
        self.opens(Outside(device), "bob")


@unittest.skipUnless(shutil.which("strace"), "needs strace, to kill the daemon at a system call")
class KilledWhileEnrolling(Keys):
    """The daemon is killed as it enters its first, second, third ... call of each kind that writes."""

    def kill_at(self, call: str, number: int, text: str, device: spa1.ClientKeys) -> bool | None:
        """Whether the daemon came so far, and was killed there; None where strace could not take hold or let go."""
        daemon = self.gateway.running()
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        argv = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, "-p", str(daemon.pid)]
        strace = harness.Process(argv)
        self.addCleanup(strace.end)
        try:
            eventually(lambda: re.search(r"attached", strace.text()), 5, "strace attached")
        except AssertionError:
            strace.end()
            return None
        self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])

        def settled() -> bool:
            return daemon.process.poll() is not None or self.written(text)

        eventually(settled, 15, f"killed at {call} {number}, or done")
        killed = daemon.process.poll() is not None
        if not killed:
            strace.process.terminate()  # by this it lets the daemon go
            with contextlib.suppress(subprocess.TimeoutExpired):
                strace.wait(5)
        held = strace.process.poll() is None and not killed
        strace.end()
        return None if held else killed

    def try_to_kill_at(self, call: str, number: int) -> tuple[bool, str, spa1.ClientKeys]:
        for attempt in range(4):
            text, device = self.gateway.invite(f"{call}-{number}-{attempt}"), harness.fresh_keys(self.gateway)
            killed = self.kill_at(call, number, text, device)
            if killed is not None:
                return killed, text, device
            self.gateway.kill9()
            self.gateway.start()
        raise AssertionError("strace took no hold in four tries")

    def written(self, text: str) -> bool:
        name = spa1.parse_invite(text).name
        return self.enrolled(name) and self.invite_state(name) == "spent"

    def invite_state(self, name: str) -> str:
        invites = self.gateway.keys_json("list")["invites"]
        return str(next(invite["state"] for invite in invites if invite["name"] == name))

    def both_or_neither(self, name: str, where: str) -> None:
        spent = self.invite_state(name) == "spent"
        self.assertEqual(self.enrolled(name), spent, f"client and spent invite, {where}")

    def test_at_every_call_that_writes(self) -> None:
        self.gateway.start()
        killed: dict[str, int] = {}
        for call in ("pwrite64", "fdatasync", "fsync", "renameat2", "rename", "unlink"):
            for number in itertools.count(1):
                was_killed, text, device = self.try_to_kill_at(call, number)
                if not was_killed:
                    break
                name = spa1.parse_invite(text).name
                killed[call] = number
                self.gateway.running().wait()
                self.gateway.stop()
                self.gateway.start()
                self.both_or_neither(name, f"killed at {call} {number}")
                self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])
                eventually(lambda text=text: self.written(text), what="the client's repeat makes it good")
                other = harness.fresh_keys(self.gateway)
                self.friend.send(harness.enroll_datagram(text, other), GATEWAY[4])
                eventually(lambda: self.gateway.refused("enroll") >= 1, what="nobody else is enrolled by it")
        self.assertGreater(killed.get("fdatasync", 0) + killed.get("fsync", 0), 3, killed)
        self.assertGreater(killed.get("renameat2", 0), 0, killed)
        print(f"killed at {killed}", end=" ", flush=True)


if __name__ == "__main__":
    unittest.main()
