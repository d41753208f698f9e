"""PINs and one-time codes from end to end: what `spa-keys invite` gives, spa-client sends and the gateway takes."""

from __future__ import annotations

import base64
import re
import unittest

import harness
from device import CLIENT, Device
from harness import GATEWAY, HOST_NAME, as_object, eventually
from test_codes import totp


def setUpModule() -> None:
    harness.require("ssh", "ssh-keygen")


class Codes(Device):
    def test_a_pin(self) -> None:
        facts = self.gateway.keys_json("invite", "alice", "--services", "ssh", "--pin")
        wrong = f"{(int(facts['pin']) + 1) % 100_000_000:08}"
        with self.refusing("enroll", count=6):
            self.client("enroll", facts["invite"], "--no-proof", stdin=f"{wrong}\n")
        self.assertFalse(self.enrolled("alice"))
        answer = as_object(self.client("enroll", facts["invite"], "--json", stdin=f"{facts['pin']}\n").stdout)
        self.assertTrue(self.enrolled("alice"))
        self.assertEqual(answer["proof"], "open")

    def test_a_one_time_code(self) -> None:
        invited = self.gateway.keys("invite", "alice", "--services", "ssh", "--one-time-code")
        secret = re.search(r"otpauth://totp/\S*[?&]secret=([A-Z2-7]+)", invited.stderr)
        self.assertIsNotNone(secret, invited.stderr)
        text = secret[1] if secret else ""
        key = base64.b32decode(text + "=" * (-len(text) % 8))
        answer = as_object(self.client("enroll", invited.stdout.strip(), "--json").stdout)
        self.assertEqual(answer["proof"], "none", "a code is not asked for to prove something")
        eventually(lambda: self.enrolled("alice"))
        self.assertIn("one-time-code = true", self.profile().read_text())
        asked = self.client("open", HOST_NAME, "ssh", "--once", check=False)
        self.assertEqual(asked.returncode, 64, "no terminal to ask on")
        code = f"{totp(key, 6):06}"
        open_it = ("open", HOST_NAME, "ssh", "--wait", "--one-time-code-fd", "0")
        self.client(*open_it, stdin=f"{code[:3]} {code[3:]}\n")
        for family in harness.FAMILIES:
            self.assert_opens(self.friend, GATEWAY[family])
        self.client("close", HOST_NAME, "ssh", "--once")
        eventually(lambda: not self.granted(), what="closed without a code")
        options = self.sshd.command("x", "-n")[1:-1]
        words = [CLIENT, "ssh", "--one-time-code-fd", "0", HOST_NAME, *options, "-l", "root", "--", "echo", "inside"]
        # The next step's code, which the gateway takes already, so that nobody has to wait for it.
        fresh = f"{totp(key, 6, 1):06}"
        self.assertEqual(self.through(*words, stdin=f"{fresh}\n").stdout, "inside\n")


if __name__ == "__main__":
    unittest.main()
