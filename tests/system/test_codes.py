"""One-time codes and PINs: what is demanded is checked, once, and remembered over kill -9."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
import urllib.parse
from typing import Any

import harness
import spa1
from harness import FAMILIES, GATEWAY, Outside, SystemTest, eventually

STEP_S = 30


def setUpModule() -> None:
    harness.require()


def totp(secret: bytes, digits: int, steps: int = 0) -> int:
    """RFC 6238, for the step that lies so many steps from the present one."""
    step = int(time.time()) // STEP_S + steps
    mac = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    offset = mac[-1] & 15
    word = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return int(word % 10**digits)


class Codes(SystemTest):
    """alice must send codes, bob need not."""

    digits = 6

    def setUp(self) -> None:
        super().setUp()
        self.secret = secrets.token_bytes(20)
        code = base64.b32encode(self.secret).decode()
        self.alice = Outside.add(self.gateway, "alice", one_time_code=code, one_time_digits=self.digits)
        self.bob = Outside.add(self.gateway, "bob")
        self.gateway.start()

    def code(self, steps: int = 0) -> int:
        return totp(self.secret, self.digits, steps)

    def wrong(self, number: int = 0) -> int:
        """A code that is not right now nor in the next minutes; another for each number."""
        right = {self.code(steps) for steps in range(-2, 8)}
        return [code for code in range(len(right) + 1 + number) if code not in right][number]

    def knock(self, code: int, family: int = 4, **fields: Any) -> None:
        self.alice.open(self.friend, GATEWAY[family], code=code, **fields)

    def opens(self, code: int) -> None:
        self.knock(code, 4)
        self.assert_opens(self.friend, GATEWAY[4])

    def explained_code(self) -> dict[str, Any]:
        entry = next(entry for entry in self.gateway.explained() if entry["reason"] == "code")
        self.assertEqual((entry["step"], entry["client"]), (8, "alice"))
        return entry

    def test_a_right_one_opens_both_families_and_its_repeats_do(self) -> None:
        code = self.code()
        for _ in range(3):
            for family in FAMILIES:
                self.knock(code, family)
        for family in FAMILIES:
            self.assert_opens(self.friend, GATEWAY[family])
        eventually(lambda: self.gateway.status()["accepted"]["open"] == 6)
        self.assertEqual(self.gateway.refused("code"), 0)

    def test_the_steps_before_and_after(self) -> None:
        eventually(lambda: time.time() % STEP_S < STEP_S / 2, STEP_S, "a step that does not end meanwhile")
        for steps in (-1, 1):
            self.opens(self.code(steps))
        with self.refusing("code", nothing_open=False):
            self.knock(self.code(-1) if self.code(-1) != self.code(1) else self.wrong())

    def test_missing_and_wrong(self) -> None:
        with self.refusing("code", count=20):
            for _ in range(20):
                self.knock(spa1.NO_CODE)
        self.assertIn("missing", self.explained_code()["detail"])
        with self.refusing("code"):
            self.knock(self.wrong())
        self.assertIn("wrong", self.explained_code()["detail"])
        self.opens(self.code())

    def test_who_mistypes_once_with_all_repeats_is_not_locked_out(self) -> None:
        wrong = self.wrong()
        with self.refusing("code", count=6):
            for _ in range(3):
                for family in FAMILIES:
                    self.knock(wrong, family)
        self.opens(self.code())

    def test_five_wrong_ones_pause_this_client_alone_over_kill_9_too(self) -> None:
        with self.refusing("code", count=3):
            for number in range(3):
                self.knock(self.wrong(number))
        self.gateway.kill9()
        self.gateway.start()
        with self.refusing("code", count=2):
            for number in range(3, 5):
                self.knock(self.wrong(number))
        with self.refusing("code"):
            self.knock(self.code())
        self.assertIn("10 min", self.explained_code()["detail"])
        self.gateway.kill9()
        self.gateway.start()
        with self.refusing("code"):
            self.knock(self.code())
        self.bob.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])
        self.bob.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.gateway.grants())
        reset = self.gateway.keys_json("reset-replay", "alice", "--yes")
        self.assertEqual(reset, {"name": "alice", "reset": True})
        self.opens(self.code())

    def test_no_code_is_used_twice_after_kill_9(self) -> None:
        code = self.code(1)
        self.opens(code)
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.gateway.grants())
        self.gateway.kill9()
        self.gateway.start()
        with self.refusing("code"):
            self.knock(code)
        self.assertIn("used before", self.explained_code()["detail"])

    def test_close_needs_none(self) -> None:
        self.opens(self.code())
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.gateway.grants())

    def test_one_that_is_not_demanded_is_ignored(self) -> None:
        for code in (0, 99_999_999):
            self.bob.open(self.friend, GATEWAY[4], code=code)
        self.assert_opens(self.friend, GATEWAY[4])
        self.assertEqual(self.gateway.refused("code"), 0)

    def test_what_the_policy_refuses_uses_none_up(self) -> None:
        code = self.code()
        with self.refusing("policy", count=5):
            for number in range(5):
                self.alice.open(self.friend, GATEWAY[4], "db", code=code if number == 4 else self.wrong(number))
        self.opens(code)


    def test_from_the_invite_to_the_door(self) -> None:
        invited = self.gateway.keys("invite", "carol", "--services", "ssh", f"--one-time-code={self.digits}")
        uri = re.search(r"^otpauth://totp/\S+$", invited.stderr, re.MULTILINE)
        assert uri
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(uri[0]).query)
        self.assertEqual((asked["digits"], asked["period"], asked["algorithm"]), ([str(self.digits)], ["30"], ["SHA1"]))
        text, device = invited.stdout.strip(), harness.fresh_keys(self.gateway)
        self.assertEqual(spa1.parse_invite(text).flags, 4)
        self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])
        eventually(lambda: self.enrolled("carol"))
        with self.refusing("code"):
            Outside(device).open(self.friend, GATEWAY[4])
        secret = base64.b32decode(asked["secret"][0])
        Outside(device).open(self.friend, GATEWAY[4], code=totp(secret, self.digits))
        self.assert_opens(self.friend, GATEWAY[4])


class EightDigits(Codes):
    digits = 8


class Pins(SystemTest):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()
        facts = self.gateway.keys_json("invite", "bob", "--services", "ssh", "--pin")
        self.text, self.pin = facts["invite"], int(facts["pin"])
        self.device = harness.fresh_keys(self.gateway)

    def enroll(self, code: int) -> None:
        self.friend.send(harness.enroll_datagram(self.text, self.device, code=code), GATEWAY[4])

    def wrong(self, number: int) -> int:
        return (self.pin + 1 + number) % 100_000_000

    def refuse(self, *codes: int) -> None:
        before = self.gateway.refused("enroll")
        for code in codes:
            self.enroll(code)
        eventually(lambda: self.gateway.refused("enroll") == before + len(codes), what="refused for enroll")
        self.assertEqual(self.gateway.status()["accepted"]["enroll"], 0)

    def state(self) -> str:
        (invite,) = self.gateway.keys_json("list")["invites"]
        return str(invite["state"])

    def detail(self) -> str:
        entry = self.gateway.explained()[0]
        self.assertEqual((entry["reason"], entry["step"], entry["client"]), ("enroll", 8, "bob"))
        return str(entry["detail"])

    def test_it_is_told_once_and_is_not_in_the_invite(self) -> None:
        invited = self.gateway.keys("invite", "carol", "--services", "ssh", "--pin")
        self.assertRegex(invited.stdout, r"\Aspa1-invite:\S+\n\Z")
        self.assertRegex(invited.stderr, r"PIN: \d{8}\b")
        self.assertEqual(spa1.parse_invite(invited.stdout.strip()).flags, 1)

    def test_the_right_one_enrolls(self) -> None:
        self.enroll(self.pin)
        eventually(lambda: self.enrolled("bob"))
        self.enroll(self.wrong(0))  # the same enroll again is no error, whatever its PIN
        eventually(lambda: self.gateway.status()["accepted"]["enroll"] == 2)

    def test_a_missing_one_counts_nothing(self) -> None:
        self.refuse(*[spa1.NO_CODE] * 12)
        self.assertIn("missing", self.detail())
        self.enroll(self.pin)
        eventually(lambda: self.enrolled("bob"))

    def test_four_wrong_ones_with_their_repeats_are_forgiven(self) -> None:
        for number in range(4):
            self.refuse(*[self.wrong(number)] * 3, self.wrong(0))
        self.enroll(self.pin)
        eventually(lambda: self.enrolled("bob"))

    def test_five_different_ones_spend_it_over_kill_9_too(self) -> None:
        self.refuse(*[self.wrong(number) for number in range(3)])
        self.gateway.kill9()
        self.gateway.start()
        self.refuse(self.wrong(0), self.wrong(3))
        self.assertEqual(self.state(), "live")
        self.refuse(self.wrong(4))
        self.assertEqual(self.state(), "spent")
        self.refuse(self.pin)
        self.assertIn("wrong PINs", self.detail())
        self.gateway.kill9()
        self.gateway.start()
        self.refuse(self.pin)
        self.assertFalse(self.enrolled("bob"))
        self.assertRegex(self.gateway.log(), "(?i)spent by wrong PINs")
        self.assertNotRegex(self.gateway.log(), f"{self.pin:08}|{self.wrong(4):08}", "no PIN is logged")
        self.gateway.invite("bob")

    def test_the_state_knows_better_than_an_older_file(self) -> None:
        (file,) = (self.gateway.dir / "invites.d").glob("bob@*.toml")
        unspent = file.read_bytes()
        self.refuse(*[self.wrong(number) for number in range(5)])
        file.write_bytes(unspent)
        eventually(lambda: self.state() == "live", what="as from an old backup")
        self.refuse(self.pin)
        self.gateway.restart()
        self.assertEqual(self.state(), "spent", "noted again")
        self.refuse(self.pin)
