"""Secrets asked for on a terminal: nothing shows, and the terminal is as it was, also after Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import subprocess
import tempfile
import termios
import time
import unittest
from pathlib import Path

import harness
from harness import BIN, eventually

CLIENT = str(BIN / "spa-client")


def setUpModule() -> None:
    if not (BIN / "spa-client").exists():
        raise unittest.SkipTest(f"not there: {BIN}/spa-client")


class Terminal:
    """A pseudo-terminal, and a program that has it as its own."""

    def __init__(self, home: Path, *arguments: str, **options: object) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        os.set_blocking(self.master, False)

        def own_it() -> None:
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [CLIENT, *arguments],
            env={"SPA_CONFIG_DIR": str(home), "PATH": os.environ["PATH"]},
            start_new_session=True,
            preexec_fn=own_it,
            **{"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **options},
        )

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(self.master, 4096):
                self.shown += part
        return self.shown.decode()

    def expect(self, text: str) -> None:
        eventually(lambda: text in self.read(), 10, f"{text!r} on the terminal: {self.shown!r}")

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def answer(self, prompt: str, typed: str) -> None:
        self.expect(prompt)
        eventually(lambda: not self.echoes(), 5, "silent")
        os.write(self.master, typed.encode() + b"\n")

    def wait(self) -> int:
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
            time.sleep(0.01)
        code = self.process.wait(1)
        self.read()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


class Prompts(unittest.TestCase):
    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="spa-prompts-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.write_profile()

    def write_profile(self) -> None:
        key = "A" * 42
        lines = [
            *('host = "127.0.0.1"', "ports = [9]", 'name = "anna"', f'gateway-public-key = "C{key}"'),
            *(f'gateway-hmac-key = "D{key}"', f'private-key = "E{key}"', f'psk = "F{key}"', "[services.ssh]"),
        ]
        path = self.home / "gw.toml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")

    def terminal(self, *arguments: str, **options: object) -> Terminal:
        terminal = Terminal(self.home, *arguments, **options)
        self.addCleanup(terminal.close)
        return terminal

    def seal(self, passphrase: str) -> None:
        terminal = self.terminal("passwd", "gw")
        terminal.answer("New passphrase for gw: ", passphrase)
        terminal.answer("The same again: ", passphrase)
        self.assertEqual(terminal.wait(), 0, terminal.shown)
        self.assertNotIn(passphrase, terminal.shown.decode())

    def test_a_passphrase_from_the_first_to_the_last(self) -> None:
        self.seal("correct horse")
        self.assertIn("[sealed]", (self.home / "gw.toml").read_text())
        terminal = self.terminal("show", "gw")
        terminal.answer("Passphrase of gw: ", "wrong")
        terminal.answer("wrong passphrase\r\nPassphrase of gw: ", "correct horse")
        self.assertEqual(terminal.wait(), 0)
        self.assertIn("own name     anna", terminal.shown.decode())
        self.assertTrue(terminal.echoes())

    def test_three_wrong_ones_are_enough(self) -> None:
        self.seal("correct horse")
        terminal = self.terminal("show", "gw")
        for number in (1, 2, 3):
            eventually(lambda number=number: terminal.read().count("Passphrase of gw: ") == number, 10)
            eventually(lambda: not terminal.echoes(), 5, "silent")
            os.write(terminal.master, b"wrong\n")
        self.assertEqual(terminal.wait(), 1)
        self.assertEqual(terminal.shown.count(b"wrong passphrase"), 3)

    def test_two_that_differ(self) -> None:
        terminal = self.terminal("passwd", "gw")
        terminal.answer("New passphrase for gw: ", "one")
        terminal.answer("The same again: ", "other")
        self.assertEqual(terminal.wait(), 1)
        self.assertNotIn("[sealed]", (self.home / "gw.toml").read_text())

    def test_signals_leave_the_terminal_as_it_was(self) -> None:
        for how in ("typed", signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(how=how):
                terminal = self.terminal("open", "gw", "ssh", "--one-time-code", "--once")
                terminal.expect("One-time code for 127.0.0.1: ")
                eventually(lambda terminal=terminal: not terminal.echoes(), 5, "silent")
                if how == "typed":
                    os.write(terminal.master, b"12345\x03")
                else:
                    terminal.process.send_signal(how)
                number = signal.SIGINT if how == "typed" else how
                self.assertEqual(terminal.wait(), -number)
                self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before)

    def test_a_code_is_asked_for_and_not_shown(self) -> None:
        terminal = self.terminal("open", "gw", "ssh", "--one-time-code", "--once")
        terminal.answer("One-time code for 127.0.0.1: ", "123 456")
        self.assertEqual(terminal.wait(), 0, terminal.shown)
        self.assertNotIn("456", terminal.shown.decode())

    def test_it_is_asked_on_the_terminal_whatever_standard_input_is(self) -> None:
        """As a ProxyCommand has it: standard input and output belong to ssh."""
        pipe = subprocess.PIPE
        terminal = self.terminal("open", "gw", "ssh", "--one-time-code", "--once", stdin=pipe, stdout=pipe)
        terminal.answer("One-time code for 127.0.0.1: ", "123456")
        self.assertEqual(terminal.wait(), 0)
        with terminal.process.stdin, terminal.process.stdout as out:
            self.assertEqual(out.read(), b"sent: open ssh (1 datagram to 127.0.0.1)\n")

    def test_forgetting_asks(self) -> None:
        terminal = self.terminal("forget", "gw")
        terminal.expect("Type yes: ")
        os.write(terminal.master, b"no\n")
        self.assertEqual(terminal.wait(), 1)
        self.assertTrue((self.home / "gw.toml").exists())
        terminal = self.terminal("forget", "gw")
        terminal.expect("Type yes: ")
        os.write(terminal.master, b"yes\n")
        self.assertEqual(terminal.wait(), 0)
        self.assertFalse((self.home / "gw.toml").exists())

    def test_a_secret_from_a_descriptor(self) -> None:
        self.seal("correct horse")
        reader, writer = os.pipe()
        os.write(writer, b"correct horse\n")
        os.close(writer)
        done = subprocess.run(
            [CLIENT, "show", "gw", "--passphrase-fd", str(reader)],
            env={"SPA_CONFIG_DIR": str(self.home)},
            pass_fds=[reader],
            capture_output=True,
            text=True,
        )
        os.close(reader)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("own name     anna", done.stdout)


if __name__ == "__main__":
    unittest.main()
