"""The audit log: what it tells, that it stays whole whatever happens, and that it shows what was done to it.

The chain is followed a second time here, from docs/audit.md alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import (
    FAMILIES,
    FRIEND,
    GATEWAY,
    Outside,
    Service,
    SystemTest,
    enroll_datagram,
    eventually,
    fresh_keys,
    server_toml,
)

NOTHING = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
SMALL = '[audit]\nfile-size = "64KiB"\nfiles = 3\n'


def setUpModule() -> None:
    harness.require()


def follow(files: list[Path]) -> list[dict[str, Any]]:
    """All lines of a log that is whole, oldest file first; an AssertionError names the first that does not fit."""
    lines: list[dict[str, Any]] = []
    scraps = b""
    for file in files:
        for number, octets in enumerate(file.read_bytes().splitlines(keepends=True), 1):
            found = re.fullmatch(rb'(\{.*),"hash":"([\w-]{43})"\}\n?', octets)
            if not found or not is_hash_of(found[2].decode(), found[1]):
                scraps += octets
                continue
            line = json.loads(octets)
            if scraps:
                told = (line["event"], line.get("octets"), line.get("sha256"))
                assert told == ("torn", len(scraps), base64_of(scraps)), f"{file} line {number}: {told}, {scraps!r}"
                scraps = b""
            if lines or line["n"] == 1:
                before = lines[-1] if lines else {"n": 0, "hash": NOTHING}
                assert (line["n"], line["prev"]) == (before["n"] + 1, before["hash"]), f"{file} line {number}: {line}"
            lines.append(line)
    assert not scraps, scraps
    return lines


def base64_of(octets: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(octets).digest()).decode().rstrip("=")


def is_hash_of(text: str, octets: bytes) -> bool:
    return text == base64_of(octets)


class Audit(SystemTest):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice")

    @property
    def folder(self) -> Path:
        return self.gateway.dir / "state"

    def files(self) -> list[Path]:
        """Oldest first."""
        found = [path for path in self.folder.glob("audit.log*") if re.fullmatch(r"audit\.log(\.\d+)?", path.name)]
        return sorted(found, key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        return [line for line in follow(self.files()) if event in (None, line["event"])]

    def await_lines(self, event: str, count: int = 1, seconds: float = 5) -> list[dict[str, Any]]:
        return eventually(lambda: (found := self.lines(event))[count - 1 :] and found, seconds, f"{count} × {event}")

    def verify(self, *options: str, whole: bool = True) -> dict[str, Any]:
        done = self.gateway.control("audit", "verify", "--json", *options, check=False)
        self.assertEqual(done.returncode, 0 if whole else 1, done)
        answer = harness.as_object(done.stdout)
        self.assertEqual(answer["ok"], whole, answer)
        return answer

    def show(self, *options: str) -> dict[str, Any]:
        return self.gateway.control_json("audit", "show", *options)

    def open_door(self, family: int = 4, duration: int = 100) -> None:
        before = len(self.lines("opened"))
        self.alice.open(self.friend, GATEWAY[family], duration=duration)
        self.await_lines("opened", before + 1)


class Told(Audit):
    """What is in it."""

    def test_who_could_reach_what(self) -> None:
        self.gateway.start()
        for family in FAMILIES:
            self.open_door(family)
        self.alice.open(self.friend, GATEWAY[4], duration=200)
        self.await_lines("renewed")
        self.alice.close(self.friend, GATEWAY[4])
        self.await_lines("ended")
        self.gateway.control("close", "alice")
        four, six = self.await_lines("ended", 2)
        self.assertEqual((four["address"], four["how"], four["uid"]), (FRIEND[4], "closed", None))
        self.assertEqual((six["address"], six["how"], six["uid"]), (FRIEND[6], "command", 0))
        access = self.show("--since", "1h", "--client", "alice")["access"]
        ends = {one["address"]: one["ended"] for one in access}
        self.assertEqual(ends, {FRIEND[4]: "closed", FRIEND[6]: "command"})
        for one in access:
            told = [one[key] for key in ("client", "service", "via", "source")]
            self.assertEqual(told, ["alice", "ssh", "knock", one["address"]])
        self.assertEqual(self.show("--client", "bob")["access"], [])
        self.assertEqual(self.show("--service", "db")["access"], [])
        self.assertEqual(len(self.show("--address", f"{FRIEND[4]}")["access"]), 1)
        table = self.gateway.control("audit", "show", "--since", "7d").stdout.splitlines()
        self.assertEqual(table[0].split(), ["from", "until", "client", "service", "address", "ended"])
        self.assertEqual(len(table), 3, table)

    def test_a_door_that_ends_by_itself(self) -> None:
        self.gateway.start()
        self.open_door(duration=1)
        (ended,) = self.await_lines("ended")
        self.assertEqual(ended["how"], "expired")
        (one,) = self.show()["access"]
        self.assertEqual(one["ended"], "expired")

    def test_an_enrollment_a_revocation_and_a_command(self) -> None:
        self.gateway.start()
        invite = self.gateway.invite("bob")
        self.friend.send(enroll_datagram(invite, fresh_keys(self.gateway), "Bob's phone"), GATEWAY[4])
        (enrolled,) = self.await_lines("enrolled")
        self.assertEqual((enrolled["client"], enrolled["source"], enrolled["label"]), ("bob", FRIEND[4], "Bob's phone"))
        self.assertRegex(enrolled["key"], r"^SHA256:[\w-]{43}$")
        self.open_door()
        self.gateway.keys("revoke", "alice")
        (ended,) = self.await_lines("ended")
        self.assertEqual((ended["client"], ended["how"]), ("alice", "not-allowed"))
        self.gateway.keys("reset-replay", "alice", "--yes")
        (command,) = self.await_lines("command")
        self.assertEqual((command["name"], command["about"], command["uid"]), ("reset-replay", "alice", 0))
        loaded = [(line["name"], line["state"]) for line in self.lines("file") if line["kind"] == "client"]
        self.assertIn(("bob", "loaded"), loaded)
        self.assertIn(("alice", "loaded"), loaded)

    def test_a_client_that_was_taken_away_keeps_its_name(self) -> None:
        self.gateway.start()
        self.open_door()
        (self.gateway.dir / "clients.d" / "alice.toml").unlink()
        (ended,) = self.await_lines("ended")
        self.assertEqual((ended["client"], ended["how"]), (None, "not-allowed"))
        (one,) = self.show("--client", "alice")["access"]
        self.assertEqual((one["client"], one["ended"]), ("alice", "not-allowed"))

    def test_refused_clients_have_lines_and_strangers_are_counted(self) -> None:
        self.gateway.start()
        self.alice.open(self.friend, GATEWAY[4], "db")
        (refused,) = self.await_lines("refused")
        self.assertEqual((refused["client"], refused["reason"], refused["source"]), ("alice", "policy", FRIEND[4]))
        for _ in range(300):
            self.alice.open(self.friend, GATEWAY[4], offset=-4000)
            self.friend.send(os.urandom(204), GATEWAY[4])
        eventually(lambda: self.gateway.refused("tag") >= 300, 10)
        eventually(lambda: self.gateway.refused("time", "rate") >= 300, 10)
        self.gateway.stop()
        refused = self.lines("refused")
        self.assertLess(len(refused), 20)
        self.assertEqual(sum(line["count"] for line in refused if line["reason"] in ("time", "rate")), 300)
        counted = sum(line["refused"].get("tag", 0) for line in self.lines("strangers"))
        self.assertEqual(counted, 300)
        self.assertLessEqual(len(self.lines("strangers")), 2)
        self.assertEqual(len(self.show("--client", "alice")["refused"]), len(refused))

    def test_configurations_starts_and_stops(self) -> None:
        self.gateway.start()
        self.gateway.configure(server_toml(Service(duration="60s")))
        self.gateway.reload()
        (loaded,) = self.await_lines("loaded")
        self.assertIn("service ssh: other duration", loaded["changes"])
        self.gateway.configure("nonsense = 1\n")
        self.gateway.reload()
        self.assertIn("nonsense", self.await_lines("rejected")[0]["why"])
        self.gateway.configure(server_toml(Service(duration="90s"), keep_doors=False))
        self.gateway.control("apply", "--confirm", "1m")
        self.assertTrue(self.await_lines("loaded", 2)[1]["on_trial"])
        self.gateway.control("confirm")
        self.await_lines("confirmed")
        self.open_door()
        self.gateway.stop()
        self.assertEqual([line["how"] for line in self.lines("ended")], ["stopped"])
        self.assertEqual(self.lines()[0]["event"], "started")
        self.assertEqual((self.lines()[-1]["event"], self.lines()[-1]["doors_kept"]), ("stopped", False))

    def test_an_unconfirmed_change_is_undone(self) -> None:
        self.gateway.start()
        self.gateway.configure(server_toml(Service(duration="90s")))
        self.gateway.control("apply", "--confirm", "1s")
        self.await_lines("undone", seconds=10)
        eventually(lambda: self.gateway.status()["config"]["state"] == "current", 5)
        self.assertEqual(len(self.lines("undone")), 1)

    def test_a_sequence_is_marked_as_replayable(self) -> None:
        sequence = '[[sequence]]\nname = "card"\nknocks = ["7311/tcp", "15002/udp", "9040/tcp"]\nservice = "ssh"\n'
        self.gateway.configure(server_toml() + sequence)
        self.gateway.start()
        self.client("knock", GATEWAY[4], "7311/tcp", "15002/udp", "9040/tcp")
        (opened,) = self.await_lines("opened")
        self.assertEqual((opened["client"], opened["sequence"], opened["via"]), (None, "card", "sequence (replayable)"))
        self.assertIn("card, sequence (replayable)", self.gateway.control("audit", "show").stdout)

    def test_no_secret_and_no_wide_mode(self) -> None:
        self.gateway.start()
        self.open_door()
        for file in self.files():
            self.assertEqual(file.stat().st_mode & 0o7777, 0o600)
        text = "".join(file.read_text() for file in self.files())
        for secret in (self.alice.keys.psk, self.alice.keys.private, self.gateway.hmac_key):
            self.assertNotIn(base64.urlsafe_b64encode(secret).decode().rstrip("="), text)

    def test_a_dry_run_keeps_none(self) -> None:
        self.gateway.start("--dry-run")
        self.alice.open(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.status()["accepted"]["open"] == 1)
        self.assertEqual(self.files(), [])
        self.assertNotIn("audit", self.gateway.status())
        self.assertEqual(self.gateway.control("audit", "verify", check=False).returncode, 1)


class Whole(Audit):
    """Whatever happens to the daemon, the chain holds."""

    def setUp(self) -> None:
        super().setUp()
        self.many = [Outside.add(self.gateway, f"client{number}") for number in range(8)]

    def test_beside_the_daemon_and_without_it(self) -> None:
        self.gateway.start()
        self.open_door()
        verified = self.verify()
        self.assertNotIn("audit", self.gateway.status(), "only what is wrong with it is told there")
        self.assertEqual(verified["head"], self.lines()[-1]["hash"])
        self.assertEqual((verified["daemon"], verified["first"]), (True, 1))
        self.gateway.stop()
        after = self.verify("--from", verified["head"])
        self.assertIsNone(after["daemon"])
        self.assertGreater(after["lines"], verified["lines"])
        self.assertEqual(after["head"], self.lines()[-1]["hash"])

    def test_kill_9_again_and_again(self) -> None:
        for _ in range(4):
            self.gateway.start()
            for _ in range(5):
                self.alice.open(self.friend, GATEWAY[4], duration=100)
            eventually(lambda: self.gateway.status()["accepted"]["open"] >= 1)
            self.gateway.kill9()
        self.gateway.start()
        self.assertEqual(len(self.lines("started")), 5)
        self.assertGreaterEqual(len(self.lines("restored")), 3)
        self.verify()

    def test_a_kill_in_the_middle_of_a_line(self) -> None:
        """The disk is full inside a line, and the daemon dies of kill -9: what it left is told of at the start."""
        self.mount_small(self.folder, "3m")
        self.gateway.start()
        self.fill(self.folder / "filler")
        log = self.folder / "audit.log"
        self.knock_until(lambda: not log.read_bytes().endswith(b"\n"), "the audit log full in the middle of a line")
        self.gateway.kill9()
        unfinished = self.verify()["unfinished"]
        self.assertGreater(unfinished, 0)
        (self.folder / "filler").unlink()
        self.gateway.start()
        (line,) = self.await_lines("torn")
        self.assertEqual(line["octets"], unfinished + 1)
        verified = self.verify()
        self.assertEqual((verified["torn"], verified["unfinished"]), (1, 0))

    @unittest.skipUnless(shutil.which("strace"), "needs strace, to kill the daemon at a system call")
    def test_a_kill_between_the_door_and_its_line(self) -> None:
        """What the log could not tell of any more, the next start does: the record knew before the door opened."""
        for _ in range(4):
            self.gateway.start()
            if self.killed_at_its_line():
                break
            self.gateway.kill9()
        else:
            self.skipTest("strace took no hold in four tries")
        self.assertIn(FRIEND[4], self.gateway.entries())
        self.assertEqual(self.lines("opened"), [])
        self.gateway.stop()
        self.gateway.start()
        (restored,) = self.lines("restored")
        self.assertEqual((restored["client"], restored["address"]), ("alice", FRIEND[4]))
        (one,) = self.show()["access"]
        self.assertEqual((one["client"], one["from"], one["ended"]), ("alice", restored["since"], None))

    def killed_at_its_line(self) -> bool:
        daemon, log = self.gateway.running(), self.folder / "audit.log"
        argv = ["strace", "-f", "-o", "/dev/null", "-P", str(log), "-e", "inject=write:signal=SIGKILL:when=1"]
        strace = harness.Process([*argv, "-p", str(daemon.pid)])
        self.addCleanup(strace.end)
        with contextlib.suppress(AssertionError):
            eventually(lambda: "attached" in strace.text(), 5, "strace attached")
            self.alice.open(self.friend, GATEWAY[4], duration=100)
            eventually(lambda: daemon.process.poll() is not None, 5, "killed")
        strace.end()
        return daemon.process.poll() is not None

    def knock_until(self, done: Callable[[], bool], what: str) -> None:
        """By several clients, since one alone is held to its rate."""

        def knock() -> bool:
            for client in self.many:
                client.open(self.friend, GATEWAY[4], duration=600)
            return done()

        eventually(knock, 60, what)

    def test_a_full_disk_is_outlived_and_told_of(self) -> None:
        self.mount_small(self.folder, "3m")
        self.gateway.start()
        self.fill(self.folder / "filler")
        self.knock_until(lambda: "audit" in self.gateway.status(), "the audit log not writable")
        self.assertIn("No space left on device", self.gateway.status()["audit"]["note"])
        self.assertIn("the audit log cannot be written", self.gateway.log())
        (self.folder / "filler").unlink()
        log = self.folder / "audit.log"
        eventually(lambda: '"event":"gap"' in log.read_text(), 10, "the gap told of")
        (gap,) = self.lines("gap")
        self.assertEqual(gap["lost"], 0)
        self.assertGreater(gap["late"], 0)
        eventually(lambda: "audit" not in self.gateway.status())
        self.open_door()
        self.verify()
        self.assertEqual(len(self.show()["gaps"]), 1)

    def test_files_are_rotated_and_the_chain_goes_on_over_them(self) -> None:
        self.gateway.configure(server_toml() + SMALL)
        self.gateway.start()
        self.knock_until(lambda: self.verify()["first"] > 1, "the oldest file gone")
        self.assertEqual([file.name for file in self.files()], ["audit.log.2", "audit.log.1", "audit.log"])
        for file in self.files():
            self.assertLess(file.stat().st_size, 90_000)
        verified = self.verify()
        self.assertGreater(verified["first"], 1)
        begins = self.gateway.control("audit", "show", "--since", "1d")
        self.assertIn("what was before is not kept any more", begins.stderr)
        self.gateway.restart()
        self.verify("--from", verified["head"])

    def test_a_reader_beside_a_rotation_sees_a_whole_log(self) -> None:
        self.gateway.configure(server_toml() + SMALL)
        self.gateway.start()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for client in self.many:
                client.open(self.friend, GATEWAY[4], duration=100)
            self.verify()

    def test_a_logrotate_of_somebody_elses(self) -> None:
        """Moved away under the daemon: it goes on in a new file, says so, and the chain holds."""
        self.gateway.start()
        self.open_door()
        (self.folder / "audit.log").rename(self.folder / "audit.log.1")
        self.open_door(6)
        self.assertEqual(self.await_lines("altered")[0]["what"], "the file was taken away")
        self.verify()

    def test_a_line_is_checked_with_standard_tools(self) -> None:
        self.gateway.start()
        self.open_door()
        (recipe,) = re.findall(r"^ *(sed -n 5p .*)$", (harness.ROOT / "docs" / "audit.md").read_text(), re.MULTILINE)
        for place, line in enumerate(self.lines(), 1):
            done = harness.run("sh", "-c", recipe.replace("5p", f"{place}p"), cwd=self.folder)
            self.assertEqual(done.stdout.strip().rstrip("="), line["hash"])

    def test_a_reboot_ends_what_was_open(self) -> None:
        self.gateway.start()
        self.open_door()
        self.gateway.kill9()
        other = self.network.folder / "boot_id"
        other.write_text("00000000-1111-4222-8333-444444444444\n")
        for _ in range(2):
            self.gateway.start(bind={"/proc/sys/kernel/random/boot_id": other})
            self.assertEqual([line["how"] for line in self.await_lines("ended")], ["reboot"])
            self.gateway.stop()


class Tampered(Audit):
    """What was done to it shows."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()
        self.open_door()
        self.alice.close(self.friend, GATEWAY[4])
        self.await_lines("ended")
        self.open_door(6)
        self.log = self.folder / "audit.log"

    def bad(self, *options: str) -> tuple[str, int]:
        bad = self.verify(*options, whole=False)["bad"]
        return bad["file"], bad["line"]

    def test_a_changed_line(self) -> None:
        self.gateway.stop()
        lines = self.log.read_text().splitlines(keepends=True)
        place = next(number for number, line in enumerate(lines, 1) if '"opened"' in line)
        lines[place - 1] = lines[place - 1].replace(FRIEND[4], "10.77.1.200")
        self.log.write_text("".join(lines))
        self.assertEqual(self.bad(), ("audit.log", place))
        done = self.gateway.control("audit", "verify", check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"audit.log, line {place}: the line was changed", done.stderr)
        self.assertIn("cannot be believed", self.gateway.control("audit", "show").stderr)

    def test_a_line_that_is_gone(self) -> None:
        self.gateway.stop()
        lines = self.log.read_text().splitlines(keepends=True)
        self.log.write_text("".join(lines[:2] + lines[3:]))
        self.assertEqual(self.bad(), ("audit.log", 3))

    def test_a_tail_that_is_cut_off_shows_against_a_hash_kept_elsewhere(self) -> None:
        kept = self.verify()["head"]
        self.gateway.stop()
        lines = self.log.read_text().splitlines(keepends=True)
        self.log.write_text("".join(lines[:3]))
        self.verify()
        self.verify("--from", kept, whole=False)
        self.verify("--head", kept, whole=False)

    def test_a_tail_that_is_cut_off_under_the_daemon(self) -> None:
        lines = self.log.read_text().splitlines(keepends=True)
        self.log.write_text("".join(lines[:3]))
        self.assertIs(self.verify(whole=False)["daemon"], False)
        self.alice.close(self.friend, GATEWAY[6])
        eventually(lambda: "altered" in self.log.read_text())
        self.assertIn("the audit log was changed by somebody else", self.gateway.log())
        self.verify(whole=False)
