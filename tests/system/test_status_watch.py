"""`status --watch`: on a real terminal, of any size, over a restart of the daemon; and the terminal is as it was."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess

import harness
from harness import BIN, FRIEND, GATEWAY, STRANGER, Outside, SystemTest, eventually, run


def setUpModule() -> None:
    harness.require("tmux")


_numbers = itertools.count()


class Tmux:
    """A terminal that can be looked at, in a server of its own."""

    def __init__(self, test: SystemTest, command: str, width: int = 80, height: int = 24) -> None:
        self.socket = str(test.network.folder / f"tmux{next(_numbers)}")
        # The shell stays: what is left on the terminal afterwards is looked at, too.
        argv = ["-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "env PS1='done$ ' sh -i"]
        self.tmux(*argv)
        test.addCleanup(self.tmux, "kill-server", check=False)
        eventually(lambda: "done$" in self.screen(), 5, "a shell")
        self.type(command)

    def tmux(self, *argv: str, check: bool = True) -> str:
        return run("tmux", "-S", self.socket, *argv, check=check).stdout

    def type(self, command: str) -> None:
        self.tmux("send-keys", "-l", command)
        self.tmux("send-keys", "Enter")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def facts(self, format_: str) -> str:
        return self.tmux("display-message", "-p", format_).strip()

    def expect(self, *texts: str, seconds: float = 10) -> str:
        def look() -> str:
            screen = self.screen()
            return screen if all(text in screen for text in texts) else ""

        try:
            return eventually(look, seconds, str(texts))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None

    def child(self) -> int:
        """The program that the shell runs."""
        (child,) = run("pgrep", "-P", self.facts("#{pane_pid}")).stdout.split()
        return int(child)


class StatusWatch(SystemTest):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside(harness.fresh_keys(self.gateway))
        self.alice.write_file(self.gateway, "alice", ["ssh", "db"])
        self.command = f"{BIN}/spa-server status --watch --dir {self.gateway.dir}"

    def watch(self, width: int = 80, height: int = 24) -> Tmux:
        terminal = Tmux(self, self.command, width, height)
        terminal.expect("spa-server", "OPEN DOORS", "q quits")
        return terminal

    def test_what_happens_is_seen(self) -> None:
        self.gateway.start()
        terminal = self.watch()
        self.assertIn("  none\n", terminal.screen())
        self.alice.open(self.friend, GATEWAY[4], "ssh", duration=9)
        self.alice.open(self.friend, GATEWAY[6], "db", duration=3900)
        screen = terminal.expect("OPEN DOORS 2", f"{FRIEND[4]}/32", f"{FRIEND[6]}/128", "opened   alice: ssh")
        self.assertRegex(screen, r" \d s  alice  ssh +10\.77\.1\.2/32")
        self.assertRegex(screen, r" 1:0[45]:\d\d  alice  db +fd77:1::2/128")
        self.stranger.send(bytes(300), GATEWAY[4], times=20)
        terminal.expect("refused  tag", f"refused  {STRANGER[4]}: tag")
        self.alice.open(self.friend, GATEWAY[4], "nothing")
        terminal.expect("refused  alice: policy")
        terminal.expect("OPEN DOORS 1", "ended    alice: ssh", seconds=25)
        self.gateway.control("close", "alice")
        screen = terminal.expect("OPEN DOORS 0", "closed   alice: db")
        self.assertRegex(screen, r"(?m)^  refused  tag +20 +20  #+$")

    def test_any_size_and_back(self) -> None:
        self.gateway.start()
        terminal = self.watch()
        for width, height in ((40, 12), (20, 5), (132, 50), (80, 24)):
            terminal.tmux("resize-window", "-x", str(width), "-y", str(height))

            def drawn(size: str = f"{width}x{height}") -> bool:
                lines = terminal.screen().splitlines()
                fits = terminal.facts("#{pane_width}x#{pane_height}") == size
                return fits and lines[0].startswith("spa-server") and "q quits" in lines

            eventually(drawn, 10, f"drawn anew in {width}x{height}")

    def test_a_daemon_that_restarts(self) -> None:
        self.gateway.start()
        terminal = self.watch()
        self.gateway.kill9()
        terminal.expect("no daemon since")
        self.gateway.start()
        screen = terminal.expect("config current", "started  spa-server")
        self.assertNotIn("no daemon", screen)

    def test_a_daemon_that_is_stuck(self) -> None:
        self.gateway.start()
        terminal = Tmux(self, f"{self.command}; echo code $?")
        terminal.expect("OPEN DOORS")
        daemon = self.gateway.running()
        os.kill(daemon.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, daemon.pid, signal.SIGCONT)
        terminal.expect("no daemon since", seconds=20)
        os.kill(daemon.pid, signal.SIGCONT)
        terminal.expect("config current", seconds=20)
        os.kill(daemon.pid, signal.SIGSTOP)
        terminal.tmux("send-keys", "q")
        terminal.expect("code 0", seconds=2.5)
        os.kill(daemon.pid, signal.SIGCONT)

    def test_the_terminal_is_as_it_was_after_every_end(self) -> None:
        self.gateway.start()
        for ending in ("q", "C-c", "C-d", signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(ending=ending):
                before = self.network.folder / "before"
                terminal = Tmux(self, f"stty -a > {before}; {self.command}; echo code $?; stty -a | cmp - {before} && echo same")
                terminal.expect("q quits")
                self.assertEqual(terminal.facts("#{alternate_on} #{cursor_flag}"), "1 0")
                if isinstance(ending, str):
                    terminal.tmux("send-keys", ending)
                else:
                    os.kill(terminal.child(), ending)
                terminal.expect("code 0", "same")
                self.assertEqual(terminal.facts("#{alternate_on} #{cursor_flag} #{wrap_flag}"), "0 1 1")
                terminal.tmux("kill-server", check=False)

    def test_without_a_terminal_or_a_daemon(self) -> None:
        done = self.gateway.control("status", "--watch", check=False)
        self.assertEqual((done.returncode, done.stdout), (64, ""))
        self.assertIn("status --watch --json", done.stderr)
        terminal = Tmux(self, f"{self.command}; echo code $?")
        terminal.expect("code 69", "spa-server run")

    def test_lines_of_json(self) -> None:
        self.gateway.start()
        argv = self.gateway.host.argv(BIN / "spa-server", "status", "--watch", "--json", "--dir", self.gateway.dir)
        watch = harness.Process(argv)
        self.addCleanup(watch.end)
        eventually(lambda: len(watch.out) >= 2, 10, "two lines")
        facts = json.loads(watch.out[0])
        self.assertEqual(list(facts), ["at", "status", "grants", "unreachable"])
        self.assertEqual((facts["status"]["record"]["state"], facts["grants"]), ("ok", []))
        self.gateway.kill9()
        eventually(lambda: json.loads(watch.out[-1])["unreachable"], 5, "told that it is away")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as cut:
            assert cut.stdout
            cut.stdout.readline()
            cut.stdout.close()
            self.assertEqual(cut.wait(10), 0, "nobody reads any more: that is an end, too")
