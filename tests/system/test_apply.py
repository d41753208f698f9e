"""What `apply` loads, and what becomes of a change that nobody confirms."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import signal
import socket
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
from harness import ADMIN, FAMILIES, FRIEND, GATEWAY, STRANGER, Outside, Service, SystemTest, eventually, never, server_toml

# Port 22 is hidden by both; 5432 by the old one alone, 8080 by the new one alone.
OLD = server_toml()
NEW = server_toml(Service(), Service("web", ["tcp/8080"]))
NEWER = server_toml(Service(), Service("web", ["tcp/8080", "tcp/8081"]))
OTHER_BOOT = "00000000-1111-4222-8333-444444444444\n"
MOMENTS = 50
LANES = 5
SHORT = 3  # seconds, for a change that is to be undone


def setUpModule() -> None:
    harness.require()


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, _pattern: str | None
) -> unittest.TestSuite:
    moments = loader.loadTestsFromTestCase(Moments)
    others = [test for test in harness.flat(tests) if not isinstance(test, Moments)]
    return unittest.TestSuite([harness.SideBySide(others), moments])


class Apply(SystemTest):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.file = self.gateway.dir / "server.toml"
        self.rejected = self.gateway.dir / "server.toml.rejected"
        self.addCleanup(self.end_armed)

    def end_armed(self) -> None:
        for pid in self.armed():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # What is done

    def apply(self, toml: str | None = None, *options: str, check: bool = True) -> harness.Done:
        if toml is not None:
            self.gateway.configure(toml)
        return self.gateway.control("apply", *options, check=check)

    def on_trial(self, seconds: int, toml: str = NEW) -> float:
        """Applies a change that waits; when it is over, on this process's clock."""
        self.apply(toml, "--confirm", f"{seconds}s")
        return time.monotonic() + seconds

    def confirm(self, code: int = 0) -> harness.Done:
        done = self.gateway.control("confirm", check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def in_another_boot(self) -> Mapping[str, Path]:
        other = self.network.folder / "boot_id"
        other.write_text(OTHER_BOOT)
        return {"/proc/sys/kernel/random/boot_id": other}

    def server(self, *arguments: str, bind: Mapping[str, Path] | None = None) -> harness.Done:
        argv = self.gateway.host.argv(harness.BIN / "spa-server", *arguments, "--dir", self.gateway.dir, bind=bind)
        return harness.run(*argv, check=False)

    # What is seen

    def armed(self) -> list[int]:
        """The processes that wait to undo a change of this gateway."""
        return [pid for pid, argv in processes() if "undo-unless-confirmed" in argv and str(self.gateway.dir) in argv]

    def is_hidden(self, port: int) -> bool:
        return is_hidden(self.stranger, port, 4)

    def in_force(self) -> str:
        """Which configuration the kernel keeps, in both families: "old", "new" or "mixed"."""
        found = set(in_force(self.stranger))
        return found.pop() if len(found) == 1 else "mixed"

    def config(self) -> dict[str, str]:
        return dict(self.gateway.status()["config"])

    def assert_undone(self, end: float, edited: str = NEW, seconds: float = 4.0) -> None:
        """The old rules and the old file are back in time, and the edited text is not lost."""
        eventually(lambda: self.in_force() == "old", end - time.monotonic() + seconds, "the old rules are back")
        eventually(lambda: self.file.read_text() == OLD, seconds, "the old file is back")
        self.assertEqual(self.rejected.read_text(), edited)
        self.assertTrue(self.is_hidden(22))
        self.assert_way_in()
        eventually(lambda: not self.armed(), seconds, "the armed process ends")

    def assert_way_in(self) -> None:
        for family in FAMILIES:
            self.assertEqual(self.friend.reach(GATEWAY[family], 22, ADMIN[family]), "closed", "always-allow")


def is_hidden(host: harness.Host, port: int, family: int) -> bool:
    return host.reach(GATEWAY[family], port, seconds=0.3) == "filtered"


def in_force(host: harness.Host) -> list[str]:
    """Which configuration hides what from this host, for each family; "neither" is a hole or a mixture."""
    with ThreadPoolExecutor(4) as pool:
        hidden = list(pool.map(lambda path: is_hidden(host, *path), itertools.product((5432, 8080), FAMILIES)))
    names = {(True, False): "old", (False, True): "new"}
    return [names.get(pair, "neither") for pair in zip(hidden[:2], hidden[2:], strict=True)]


def processes() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_text().split("\0")


class Plain(Apply):
    def test_it_says_what_changed_and_is_confirmed_by_that(self) -> None:
        self.gateway.start()
        done = self.apply(NEW)
        self.assertEqual(done.stdout, "the new configuration is in force:\n  service db: gone\n  service web: new\n")
        self.assertEqual(self.in_force(), "new")
        self.assertEqual(self.config()["state"], "current")
        self.assertEqual(self.armed(), [])
        answer = self.gateway.control_json("apply")
        self.assertEqual(answer["applied"], True)
        self.assertEqual((answer["confirmed"], answer["until"], answer["changes"]), (True, None, []))

    def test_a_bad_file_is_refused_with_its_line_and_nothing_is_left_armed(self) -> None:
        self.gateway.start()
        bad = OLD.replace('"tcp/22"', '"tcp/0"')
        for options in ((), ("--confirm", "60s")):
            with self.subTest(options=options):
                done = self.apply(bad, *options, check=False)
                self.assertEqual((done.returncode, done.stdout), (78, ""))
                self.assertRegex(done.stderr, r"server\.toml:\d+:\d+")
                self.assertIn("^^^", done.stderr)
                self.assertEqual(self.armed(), [])
                self.assertEqual(self.in_force(), "old")
                done = self.apply(None, *options, "--json", check=False)
                answer = harness.as_object(done.stdout)
                self.assertEqual((done.returncode, answer["applied"]), (78, False))
                self.assertEqual(answer["findings"][0]["code"], "bad-port")
        self.confirm(1)

    def test_without_a_daemon_69_and_nothing_is_left_armed(self) -> None:
        self.gateway.start()
        self.gateway.stop()
        for options in ((), ("--confirm", "2s")):
            done = self.apply(NEW, *options, check=False)
            self.assertEqual((done.returncode, done.stdout), (69, ""))
            self.assertIn("spa-server run", done.stderr)
        self.assertEqual(self.armed(), [])
        self.confirm(1)
        self.assertEqual(self.file.read_text(), NEW, "the edited file stays")

    def test_what_the_firewall_refuses_ends_with_1(self) -> None:
        self.gateway.start()
        refused = NEW + '[tcp-wrappers]\nhosts-allow = "/proc/absent/hosts.allow"\n'
        refused += '[[service]]\nname = "sshd"\nbackends = ["tcp-wrappers"]\ndaemon = "sshd"\n'
        for options in ((), ("--confirm", "60s")):
            done = self.apply(refused, *options, check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
            self.assertIn("stays in force", done.stderr)
        self.assertEqual(self.in_force(), "old")
        eventually(lambda: not self.armed(), 5, "nothing stays armed")
        self.confirm(1)

    def test_lengths_out_of_bounds_are_wrong_usage(self) -> None:
        for length in ("0s", "25h", "120", "soon"):
            done = self.apply(None, "--confirm", length, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), length)

    def test_a_daemon_with_another_configuration_is_not_asked(self) -> None:
        self.gateway.start()
        other = self.gateway.dir / "other.toml"
        other.write_text(NEW)
        done = self.apply(None, "--config", str(other), "--confirm", "5s", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("server.toml", done.stderr)
        self.assertEqual((self.armed(), self.in_force()), ([], "old"))


class Confirmed(Apply):
    def test_in_time_it_stays(self) -> None:
        self.gateway.start()
        begun = time.monotonic()
        done = self.apply(NEW, "--confirm", "8s")
        self.assertLess(time.monotonic() - begun, 8, "it returns at once")
        self.assertIn("NEW connection", done.stdout)
        self.assertIn(f"spa-server confirm --dir {self.gateway.dir}", done.stdout)
        self.assertEqual(self.in_force(), "new")
        self.assertEqual(self.config()["state"], "unconfirmed")
        self.assertRegex(self.config()["note"], r"until 20\S+Z")
        self.assertIn("unconfirmed", self.gateway.control("status").stdout)
        self.assertIn("unconfirmed", [found["code"] for found in self.gateway.control_json("check")["findings"]])
        self.assertEqual(len(self.armed()), 1)
        self.confirm()
        eventually(lambda: not self.armed(), 2, "nobody waits any more")
        self.assertEqual(self.config()["state"], "current")
        never(lambda: self.in_force() != "new", begun + 10 - time.monotonic(), "undone although confirmed")
        self.assertFalse(self.rejected.exists())
        self.assertIn("nothing waits", self.confirm(1).stderr)

    def test_it_is_what_comes_back_next_time(self) -> None:
        self.gateway.start()
        self.on_trial(60)
        self.confirm()
        end = self.on_trial(SHORT, OLD)
        eventually(lambda: self.file.read_text() == NEW, end - time.monotonic() + 4)
        eventually(lambda: self.in_force() == "new", 4)

    def test_without_a_daemon(self) -> None:
        self.gateway.start()
        end = self.on_trial(6)
        self.gateway.kill9()
        self.confirm()
        never(lambda: self.in_force() != "new", end + 1 - time.monotonic(), "undone although confirmed")
        self.gateway.start()
        self.assertEqual((self.in_force(), self.config()["state"]), ("new", "current"))

    def test_what_is_in_force_is_confirmed_and_not_a_later_text(self) -> None:
        self.gateway.start()
        self.on_trial(60)
        self.gateway.configure(NEWER)
        self.assertIn("not in force", self.confirm().stderr)
        self.assertEqual(self.config()["state"], "changed")
        end = self.on_trial(SHORT, OLD)
        eventually(lambda: self.file.read_text() == NEW, end - time.monotonic() + 4)

    def test_apply_without_confirm_settles_it(self) -> None:
        self.gateway.start()
        end = self.on_trial(5)
        self.apply()
        self.assertEqual(self.config()["state"], "current")
        never(lambda: self.in_force() != "new", end + 1 - time.monotonic(), "undone although applied for good")
        self.assertEqual(self.armed(), [])


class Undone(Apply):
    def test_with_the_daemon_alive(self) -> None:
        self.file.chmod(0o640)
        os.chown(self.file, 0, 4)
        self.gateway.start()
        end = self.on_trial(SHORT)
        self.assertEqual(self.in_force(), "new")
        self.assert_undone(end)
        eventually(lambda: self.config()["state"] == "current", 2)
        found = self.file.stat()
        self.assertEqual((found.st_mode & 0o777, found.st_gid), (0o640, 4), "as it was")
        done = self.confirm(1)
        self.assertRegex(done.stderr, r"undone at 20\S+Z")
        self.assertIn(str(self.rejected), done.stderr)
        self.assertIn("undone", [found["code"] for found in self.gateway.control_json("check")["findings"]])
        answer = harness.as_object(self.gateway.control("confirm", "--json", check=False).stdout)
        self.assertEqual((answer["confirmed"], answer["rejected"]), (False, str(self.rejected)))

    def test_with_the_daemon_killed(self) -> None:
        self.gateway.start()
        end = self.on_trial(SHORT)
        self.gateway.kill9()
        self.assert_undone(end)
        self.gateway.start()
        self.assertEqual((self.in_force(), self.config()["state"]), ("old", "current"))

    def test_with_the_daemon_frozen(self) -> None:
        self.gateway.start()
        end = self.on_trial(SHORT)
        self.gateway.running().process.send_signal(signal.SIGSTOP)
        self.assert_undone(end, seconds=12)
        self.gateway.running().process.send_signal(signal.SIGCONT)
        eventually(lambda: self.config()["state"] == "current", 5)
        never(lambda: self.in_force() != "old", 3, "the daemon puts the undone rules up again")

    def test_with_a_daemon_that_refuses(self) -> None:
        self.gateway.start()
        end = self.on_trial(SHORT)
        self.gateway.kill9()
        self.refuse()
        failed = "the last try failed: not today"
        eventually(lambda: failed in str(self.gateway.control_json("check")), SHORT + 4, "check says why it is not undone")
        self.assertIn(failed, self.confirm(1).stderr)
        self.assert_undone(end, seconds=15)

    def refuse(self) -> None:
        """Somebody who says no to everything, in the daemon's place."""
        path = self.gateway.dir / "run" / "control.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.listen(8)
        no = {"error": "spa.Failed", "parameters": {"message": "not today"}}

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as asked, contextlib.suppress(OSError):
                        asked.recv(1 << 16)
                        asked.sendall(json.dumps(no).encode() + b"\0")

        threading.Thread(target=answer, daemon=True).start()
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)

    def test_with_the_armed_process_killed(self) -> None:
        self.gateway.start()
        end = self.on_trial(SHORT)
        self.end_armed()
        self.assert_undone(end)

    def test_with_both_killed_by_the_next_start(self) -> None:
        self.gateway.start()
        self.on_trial(SHORT)
        self.end_armed()
        self.gateway.kill9()
        eventually(lambda: "about to be undone" in str(self.gateway.control_json("check")), SHORT + 4, "check says it is overdue")
        self.assertEqual(self.in_force(), "new")
        self.assertIn("too late", self.confirm(1).stderr)
        self.gateway.start()
        self.assert_undone(time.monotonic())
        self.assertIn("undone", self.gateway.log())

    def test_with_both_killed_by_protect_or_close_overdue(self) -> None:
        for command in ("protect", "close-overdue"):
            with self.subTest(command):
                self.rejected.unlink(missing_ok=True)
                self.gateway.configure(OLD)
                self.gateway.start()
                self.on_trial(SHORT)
                self.end_armed()
                self.gateway.kill9()
                eventually(lambda: "about to be undone" in str(self.gateway.control_json("check")), SHORT + 4)
                done = self.server(command)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assert_undone(time.monotonic())

    def test_the_armed_process_outlives_caller_and_terminal(self) -> None:
        self.gateway.start()
        self.gateway.configure(NEW)
        argv = self.gateway.host.argv(harness.BIN / "spa-server", "apply", "--dir", self.gateway.dir, "--confirm", "5s")
        # script(1) gives it a terminal, which goes away with a hang-up when it ends.
        done = harness.run("script", "-qec", " ".join(map(shlex.quote, argv)), "/dev/null")
        end = time.monotonic() + 5
        self.assertIn("NEW connection", done.stdout)
        (pid,) = self.armed()
        self.assertEqual(os.getsid(pid), pid, "a session of its own")
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        self.gateway.kill9()
        self.assert_undone(end)

    def test_it_keeps_no_descriptor_of_its_caller(self) -> None:
        self.gateway.start()
        self.gateway.configure(NEW)
        held, other = os.pipe()
        os.set_inheritable(other, True)
        argv = self.gateway.host.argv(harness.BIN / "spa-server", "apply", "--dir", self.gateway.dir, "--confirm", "60s")
        harness.run(*argv, pass_fds=(other,))
        os.close(other)
        os.set_blocking(held, False)
        self.assertEqual(os.read(held, 1), b"", "the end of the pipe: nobody else has it")
        os.close(held)
        self.confirm()

    def test_edited_replaced_or_removed_meanwhile_nothing_is_lost(self) -> None:
        self.gateway.start()
        end = self.on_trial(SHORT)
        self.gateway.configure(NEWER)
        self.assert_undone(end, NEWER)
        end = self.on_trial(SHORT)
        draft = self.file.with_name("draft")
        draft.write_text("# replaced\n")
        draft.rename(self.file)
        eventually(lambda: self.file.read_text() == OLD, end - time.monotonic() + 4)
        self.assertEqual(self.rejected.read_text(), NEWER, "what was rejected before stays")
        self.assertEqual(self.rejected.with_name("server.toml.rejected.1").read_text(), "# replaced\n")
        end = self.on_trial(SHORT)
        self.file.unlink()
        eventually(lambda: self.file.exists() and self.file.read_text() == OLD, end - time.monotonic() + 4)
        eventually(lambda: self.in_force() == "old", 4)


class FullDisk(Apply):
    def test_nothing_is_changed_where_nothing_can_be_remembered(self) -> None:
        kept = self.gateway.dir / "firewall"
        kept.mkdir(mode=0o700, exist_ok=True)
        self.mount_small(kept)
        self.gateway.start()
        self.fill(kept / "filler")
        done = self.apply(NEW, "--confirm", "60s", check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertEqual((self.in_force(), self.armed()), ("old", []))

    def test_it_does_not_keep_the_old_rules_away(self) -> None:
        kept = self.gateway.dir / "firewall"
        kept.mkdir(mode=0o700, exist_ok=True)
        self.mount_small(kept)
        self.gateway.start()
        for daemon in ("alive", "killed"):
            with self.subTest(daemon):
                self.rejected.unlink(missing_ok=True)
                end = self.on_trial(SHORT)
                self.fill(kept / "filler")
                if daemon == "killed":
                    self.gateway.kill9()
                eventually(lambda: self.in_force() == "old", end - time.monotonic() + 4, "the old rules are back")
                self.assertEqual((self.file.read_text(), self.rejected.read_text()), (OLD, NEW))
                (kept / "filler").unlink()
                eventually(lambda: not self.armed(), 8, "settled once there is room")
                self.assertIn("undone", self.confirm(1).stderr)
        self.assertFalse(list(self.gateway.dir.glob("server.toml.rejected.*")), "rejected once")


class Meanwhile(Apply):
    """What happens between the change and its deadline."""

    def test_a_restart_in_the_same_boot_runs_it_and_the_timer_goes_on(self) -> None:
        self.gateway.start()
        end = self.on_trial(10)
        self.gateway.restart()
        self.assertEqual((self.in_force(), self.config()["state"]), ("new", "unconfirmed"))
        self.gateway.kill9()
        self.gateway.start()
        self.assertEqual((self.in_force(), self.config()["state"]), ("new", "unconfirmed"))
        self.assertLess(time.monotonic(), end, "this machine is too slow for this test")
        self.assert_undone(end)

    def test_sighup_reloads_and_does_not_confirm(self) -> None:
        self.gateway.start()
        end = self.on_trial(7)
        self.gateway.configure(NEWER)
        self.gateway.reload()
        eventually(lambda: self.is_hidden(8081), 3, "reloaded")
        self.assertEqual(self.config()["state"], "unconfirmed")
        self.assert_undone(end, NEWER)

    def test_a_bad_file_by_sighup_changes_nothing_about_it(self) -> None:
        self.gateway.start()
        end = self.on_trial(6)
        self.gateway.configure("[gateway\n")
        self.gateway.reload()
        eventually(lambda: "rejected" in self.config()["note"], 3)
        self.assertEqual((self.in_force(), self.config()["state"]), ("new", "unconfirmed"))
        self.assert_undone(end, "[gateway\n")

    def test_a_reboot_starts_the_confirmed_copy(self) -> None:
        for first in ("run", "protect"):
            with self.subTest(first):
                self.rejected.unlink(missing_ok=True)
                self.gateway.configure(OLD)
                self.gateway.start()
                self.on_trial(600)
                self.gateway.kill9()
                self.end_armed()
                other = self.in_another_boot()
                self.assertEqual(self.server("confirm", bind=other).returncode, 1, "too late")
                if first == "protect":
                    done = self.server("protect", bind=other)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIn("started anew", done.stderr)
                    self.assertEqual(self.in_force(), "old")
                self.gateway.start(bind=other)
                self.assert_undone(time.monotonic())
                self.assertEqual(self.config()["state"], "current")
                self.gateway.stop()

    def test_a_second_apply_has_its_own_deadline_and_the_first_copy(self) -> None:
        self.gateway.start()
        first = self.on_trial(4)
        end = self.on_trial(12, NEWER)
        eventually(lambda: len(self.armed()) == 1, 2, "one process waits")
        never(lambda: self.in_force() != "new", first - time.monotonic() + 1.5, "undone at the first deadline")
        self.assert_undone(end, NEWER)

    def test_a_second_apply_that_is_refused_leaves_the_first_to_its_deadline(self) -> None:
        self.gateway.start()
        end = self.on_trial(6)
        done = self.apply("[gateway\n", "--confirm", "600s", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertEqual(self.config()["state"], "unconfirmed")
        self.assert_undone(end, "[gateway\n")

    def test_doors_stay_open(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        self.gateway.start()
        alice.open(self.friend, GATEWAY[4], duration=100)
        reached: Callable[[], bool] = lambda: self.friend.reach(GATEWAY[4], 22) == "closed"
        eventually(reached, 3)
        end = self.on_trial(SHORT)
        self.assertTrue(reached())
        self.assert_undone(end)
        self.assertTrue(reached(), f"{FRIEND[4]} has its grant")
        self.assertEqual([grant["address"] for grant in self.gateway.grants()], [FRIEND[4]])

    def test_uninstall_ends_it(self) -> None:
        self.gateway.start()
        end = self.on_trial(5)
        self.gateway.stop()
        self.gateway.control("uninstall")
        eventually(lambda: not self.armed(), 2, "nobody waits any more")
        never(lambda: self.is_hidden(22), end + 1 - time.monotonic(), "hidden again after uninstall")
        self.assertEqual(self.file.read_text(), NEW)


class Lane:
    """One gateway of several that are tried at the same time, and who knocks at its ports all the while."""

    def __init__(self, toml: str) -> None:
        self.network = harness.Network()
        self.gateway = harness.Gateway(self.network, toml)
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.tries = 0

    def watch(self) -> None:
        """From an always-allow address every port answers; a port that both configurations hide, to nobody else."""
        friend = self.network.friend
        for number in itertools.count():
            if self.over.is_set():
                return
            family, port = FAMILIES[number % 2], (22, 5432, 8080)[number % 3]
            if friend.reach(GATEWAY[family], port, ADMIN[family], seconds=2) != "closed":
                self.wrong.append(f"always-allow does not get in: IPv{family}, port {port}")
            if friend.reach(GATEWAY[family], 22, FRIEND[family], seconds=0.02) != "filtered":
                self.wrong.append(f"a stranger gets in: IPv{family}, port 22")
            self.tries += 1

    def start(self) -> None:
        """The old configuration, confirmed, and a daemon that runs."""
        if self.gateway.daemon is None:
            self.gateway.configure(OLD)
            self.gateway.start()

    def apply(self, length: str = "1s") -> harness.Process:
        self.gateway.configure(NEW)
        options = ("--dir", self.gateway.dir, "--confirm", length)
        # Not through sh, which would be killed in its place.
        enter = ("ip", "netns", "exec", self.gateway.host.name)
        return harness.Process([*enter, str(harness.BIN / "spa-server"), "apply", *map(str, options)])

    def try_moment(self, moment: float, victim: str) -> None:
        """One change, with the daemon or the command killed after so many seconds of it."""
        self.start()
        command = self.apply()
        begun = time.monotonic()
        time.sleep(moment)  # the moment itself, not a wait for a state
        if victim == "daemon":
            self.gateway.kill9()
        else:
            command.process.kill()
            self.look_for_holes(moment, begun + 1)
        command.wait()
        command.end()
        left = begun + 1 - time.monotonic()
        try:
            eventually(lambda: in_force(self.network.stranger) == ["old", "old"], max(left, 0) + 4, "the old rules")
            eventually(self.is_settled, 4, "nothing waits any more")
        except AssertionError as error:
            self.wrong.append(f"{victim} killed after {moment:.3f} s: {error}\n{self.gateway.log()}")
        if victim == "command":
            self.keep_old()

    def look_for_holes(self, moment: float, end: float) -> None:
        """Until the armed process acts nothing moves but a firewall program that was running: two looks tell."""
        found = [in_force(self.network.stranger) for _ in range(2)]
        if all("neither" in look for look in found) and time.monotonic() < end:
            self.wrong.append(f"daemon killed after {moment:.3f} s: neither the old nor the new rules, {found}")

    def is_settled(self) -> bool:
        """No armed process, and server.toml holds one of both texts, whole."""
        waits = any("undo-unless-confirmed" in argv and str(self.gateway.dir) in argv for _, argv in processes())
        codes = [finding["code"] for finding in self.gateway.control_json("check")["findings"]]
        return not waits and "unconfirmed" not in codes and (self.gateway.dir / "server.toml").read_text() in (OLD, NEW)

    def keep_old(self) -> None:
        """A command killed before it asked for anything leaves the edited file as it is."""
        self.gateway.configure(OLD)
        self.gateway.control("apply")

    def remove(self) -> None:
        self.over.set()
        self.gateway.remove()
        self.network.remove()


class Moments(unittest.TestCase):
    def test_killed_at_50_moments_it_leaves_the_old_rules_in_time_and_the_way_in(self) -> None:
        lanes = [Lane(OLD) for _ in range(LANES)]
        for lane in lanes:
            self.addCleanup(lane.remove)
        with ThreadPoolExecutor(LANES) as pool:
            lengths = list(pool.map(self.measure, lanes))
        whole = sum(lengths) / len(lengths) * 1.1
        watchers = [threading.Thread(target=lane.watch) for lane in lanes]
        for watcher in watchers:
            watcher.start()
        with ThreadPoolExecutor(LANES) as pool:
            list(pool.map(lambda number: self.work(lanes[number], number, whole), range(LANES)))
        for lane in lanes:
            lane.over.set()
        for watcher in watchers:
            watcher.join(10)
        self.assertEqual([wrong for lane in lanes for wrong in lane.wrong], [])
        self.assertGreater(min(lane.tries for lane in lanes), 20, "the prober had its turns")

    def measure(self, lane: Lane) -> float:
        """How long a change takes while as many others are made."""
        lane.start()
        begun = time.monotonic()
        self.assertEqual(lane.apply("60s").wait(), 0)
        length = time.monotonic() - begun
        lane.gateway.control("confirm")
        lane.keep_old()
        return length

    def work(self, lane: Lane, number: int, whole: float) -> None:
        for moment in range(number, MOMENTS, LANES):
            # Twice through the whole length: once for each victim.
            victim = "daemon" if moment % 2 else "command"
            lane.try_moment(whole * moment / MOMENTS, victim)


if __name__ == "__main__":
    unittest.main()
