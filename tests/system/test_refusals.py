"""Every refusal of the protocol leaves the door shut, is counted under its reason, and can be explained."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import harness
import spa1
from harness import (
    FAMILIES,
    FRIEND,
    GATEWAY,
    KNOCK_PORT,
    Outside,
    Service,
    SystemTest,
    eventually,
    server_toml,
)

FIELDS = {"tag": 3, "masked_e": 20, "enc_s": 50, "tag of enc_s": 90, "enc_payload": 100, "its last byte": -1}


def setUpModule() -> None:
    harness.require()


class Refusals(SystemTest):
    """The daemon runs and knows alice, who may open ssh for short."""

    toml = server_toml(Service(duration="20s"), Service("db", ["tcp/5432"]))

    def setUp(self) -> None:
        super().setUp()
        self.gateway.configure(self.toml)
        self.alice = Outside.add(self.gateway, "alice")
        self.gateway.start()

    def sealed(self, *services: str, offset: float = 0.0, day_offset: int = 0, **fields: Any) -> bytes:
        payload = self.alice.payload(spa1.OPEN, *services, offset=offset, **fields)
        return spa1.seal(self.alice.keys, payload, day=payload.timestamp // spa1.DAY_NS + day_offset)

    def send(self, datagram: bytes, family: int = 4, port: int = KNOCK_PORT) -> int:
        return self.friend.send(datagram, GATEWAY[family], port)

    def works(self, datagram: bytes, family: int = 4) -> None:
        """The door can be opened at all: what was refused before was refused for its fault."""
        self.send(datagram, family)
        self.assert_opens(self.friend, GATEWAY[family])

    def explanation(self, reason: str) -> dict[str, object]:
        """The newest refusal for a reason, in the shape that DESIGN gives."""
        entry = next(entry for entry in self.gateway.explained() if entry["reason"] == reason)
        keys = {"at", "step", "reason", "client", "source", "source_port", "difference_s", "detail", "count"}
        self.assertEqual(set(entry), keys)
        return entry


class Explained(Refusals):
    with_sshd = False

    def test_refusals_of_one_client_alone(self) -> None:
        self.send(self.sealed("nothing"))
        self.send(bytes(300))
        eventually(lambda: self.gateway.refused("policy") and self.gateway.refused("tag"))
        said = self.gateway.control_json("explain", "--client", "alice")["refused"]
        self.assertEqual([(entry["client"], entry["reason"]) for entry in said], [("alice", "policy")])
        self.assertEqual(self.gateway.control_json("explain", "--client", "bob")["refused"], [])
        self.assertEqual(len(self.gateway.explained()), 2)


class Replay(Refusals):
    def opened_and_closed(self) -> bytes:
        """A knock that opened the door once; the door is shut again."""
        datagram = self.sealed()
        self.works(datagram)
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.gateway.entries(), what="closed")
        return datagram

    def test_at_once_it_renews_nothing(self) -> None:
        datagram = self.sealed(duration=100)
        self.works(datagram)
        self.alice.open(self.friend, GATEWAY[4], duration=10)
        eventually(lambda: self.gateway.entries()[FRIEND[4]] <= 10)
        with self.refusing("copy", nothing_open=False):
            self.send(datagram)
        self.assertLessEqual(self.gateway.entries()[FRIEND[4]], 10)

    def test_after_a_close(self) -> None:
        datagram = self.opened_and_closed()
        with self.refusing("copy", count=3):
            for _ in range(3):
                self.send(datagram)
        self.assertEqual(self.explanation("copy")["step"], 3)

    def test_after_the_end(self) -> None:
        datagram = self.sealed(duration=1)
        self.works(datagram)
        eventually(lambda: not self.gateway.grants() and not self.gateway.entries(), 4, "ended")
        with self.refusing("copy"):
            self.send(datagram)

    def test_after_a_restart(self) -> None:
        datagram = self.opened_and_closed()
        self.gateway.restart()
        with self.refusing("replay", "copy"):
            self.send(datagram)

    def test_after_kill_9(self) -> None:
        datagram = self.opened_and_closed()
        self.gateway.kill9()
        self.gateway.start()
        with self.refusing("replay", "copy"):
            self.send(datagram)

    def test_of_an_open_door_after_kill_9(self) -> None:
        datagram = self.sealed(duration=2)
        self.works(datagram)
        self.gateway.kill9()
        self.gateway.start()
        eventually(lambda: not self.gateway.entries() and not self.gateway.grants(), 4, "ended")
        with self.refusing("replay", "copy"):
            self.send(datagram)

    def test_from_another_address_is_counted_as_forwarded(self) -> None:
        datagram = self.opened_and_closed()
        before = self.gateway.status()["forwarded"]
        with self.refusing("copy"):
            self.stranger.send(datagram, GATEWAY[4])
        self.assertEqual(self.gateway.status()["forwarded"], before + 1)
        self.assertEqual(self.explanation("copy")["source"], harness.STRANGER[4])

    def test_same_timestamp_in_another_sealing(self) -> None:
        payload = self.alice.payload()
        self.works(spa1.seal(self.alice.keys, payload))
        self.alice.close(self.friend, GATEWAY[4])
        eventually(lambda: not self.gateway.entries())
        with self.refusing("replay"):
            self.send(spa1.seal(self.alice.keys, payload))
        entry = self.explanation("replay")
        self.assertEqual((entry["step"], entry["client"]), (7, "alice"))

    def test_later_knocks_may_overtake_earlier_ones(self) -> None:
        early, late = self.sealed(offset=-5), self.sealed()
        self.works(late)
        before = self.gateway.status()
        self.send(early)
        self.barrier()
        after = self.gateway.status()
        self.assertEqual(after["refused"]["replay"], before["refused"]["replay"])

    def test_outlives_removal_of_the_client(self) -> None:
        datagram = self.opened_and_closed()
        self.gateway.keys("remove", "alice")
        eventually(lambda: self.gateway.status()["clients"]["active"] == 0, 2)
        self.alice.write_file(self.gateway, "alice-again")
        eventually(lambda: self.gateway.status()["clients"]["active"] == 1, 2)
        self.gateway.restart()
        with self.refusing("replay", "copy"):
            self.send(datagram)


class Time(Refusals):
    def test_stale_and_future(self) -> None:
        cases = [(-70.0, None), (70.0, None), (-310.0, FRIEND[4]), (310.0, FRIEND[4])]
        for offset, address in cases:
            with self.subTest(offset=offset, address=address):
                datagram = self.sealed(offset=offset, address=address)
                if not self.day_is_tried(offset):
                    continue  # a minute from midnight in the wrong half: refused by the tag
                with self.refusing("time"):
                    self.send(datagram)
                entry = self.explanation("time")
                self.assertEqual((entry["step"], entry["client"]), (6, "alice"))
                self.assertAlmostEqual(float(str(entry["difference_s"])), offset, delta=3)

    def day_is_tried(self, offset: float) -> bool:
        now = time.time_ns()
        return (now + int(offset * spa1.SECOND_NS)) // spa1.DAY_NS in spa1.days_tried(now)

    def test_within_the_window(self) -> None:
        # Rising, since a request older than the last one for the same door changes nothing.
        for offset, address in ((-290.0, FRIEND[4]), (-50.0, None), (50.0, None), (290.0, FRIEND[4])):
            if self.day_is_tried(offset):
                with self.subTest(offset=offset, address=address):
                    before = self.gateway.status()["accepted"]["open"]
                    self.send(self.sealed(offset=offset, address=address))
                    eventually(lambda before=before: self.gateway.status()["accepted"]["open"] > before)

    def test_a_window_of_its_own(self) -> None:
        bob = Outside.add(self.gateway, "bob", window_as_seen="5s", window_explicit="10s")
        with self.refusing("time"):
            self.friend.send(spa1.seal(bob.keys, bob.payload(offset=-8)), GATEWAY[4])
        with self.refusing("time"):
            self.friend.send(spa1.seal(bob.keys, bob.payload(offset=-13, address=FRIEND[4])), GATEWAY[4])

    def test_tag_of_another_day(self) -> None:
        tried = spa1.days_tried(time.time_ns())
        for day_offset in (-2, -1, 1, 2):
            reason = "time" if tried[0] + day_offset in tried else "tag"
            with self.subTest(day_offset=day_offset), self.refusing(reason):
                self.send(self.sealed(day_offset=day_offset))

    def test_timestamps_at_the_ends_of_their_range(self) -> None:
        today = time.time_ns() // spa1.DAY_NS
        for timestamp in (0, 2**64 - 1, 2**63):
            payload = dataclasses.replace(self.alice.payload(), timestamp=timestamp)
            with self.subTest(timestamp=timestamp), self.refusing("time"):
                self.send(spa1.seal(self.alice.keys, payload, day=today))


class Forged(Refusals):
    def test_a_flipped_bit_in_each_field(self) -> None:
        datagram = self.sealed()
        for name, position in FIELDS.items():
            octets = bytearray(datagram)
            octets[position] ^= 0x10
            with self.subTest(field=name), self.refusing("tag"):
                self.send(bytes(octets))
        self.works(datagram)

    def test_a_flipped_bit_by_one_who_holds_the_hmac_key(self) -> None:
        payload = self.alice.payload()
        octets = payload.to_bytes(200)
        message = spa1.noise_write(self.alice.keys, secrets.token_bytes(32), octets)
        for position in (0, 31, 33, 79, 81, len(message) - 1):
            forged = bytearray(message)
            forged[position] ^= 1
            day = payload.timestamp // spa1.DAY_NS
            datagram = spa1.wrap(self.gateway.public, self.gateway.hmac_key, bytes(forged), day)
            with self.subTest(byte_of_the_message=position), self.refusing("who"):
                self.send(datagram)
        self.assertIsNone(self.explanation("who")["client"], "a claim is nobody's act")

    def test_cut_and_padded(self) -> None:
        datagram = spa1.seal(self.alice.keys, self.alice.payload(), length=400)
        for changed in (datagram[:-1], datagram[:300], datagram[:192], datagram + b"\0", datagram + bytes(800)):
            with self.subTest(length=len(changed)), self.refusing("tag"):
                self.send(changed)
        self.works(datagram)

    def test_bytes_glued_in_front(self) -> None:
        datagram = self.sealed(duration=1)
        for glued in (b"\0", datagram[:16], b"U2FsdGVkX1"):
            with self.subTest(glued=glued), self.refusing("tag"):
                self.send(glued + datagram)
        self.works(datagram)
        eventually(lambda: not self.gateway.entries() and not self.gateway.grants(), 4, "ended")
        with self.refusing("tag"):
            self.send(b"U2FsdGVkX1" + datagram)

    def test_lengths_out_of_bounds_are_not_looked_at(self) -> None:
        short = spa1.seal(self.alice.keys, self.alice.payload(), length=191)
        long = spa1.seal(self.alice.keys, self.alice.payload(), length=1233)
        self.sees_nothing(lambda: [self.send(data) for data in (b"", b"x", short, long)])
        for length in (192, 1232):
            before = self.gateway.status()["accepted"]["open"]
            self.send(spa1.seal(self.alice.keys, self.alice.payload(), length=length))
            eventually(lambda before=before: self.gateway.status()["accepted"]["open"] > before, what=f"{length} bytes")

    def sees_nothing(self, act: Callable[[], object]) -> None:
        """What `act` sends is at most a wrong shape: the kernel's filter may have kept it from the daemon."""
        before = self.gateway.status()
        act()
        self.barrier()
        after = self.gateway.status()
        self.assertEqual(after["accepted"], before["accepted"])
        for reason in set(harness.REASONS) - {"shape", "who"}:
            self.assertEqual(after["refused"][reason], before["refused"][reason], reason)
        self.assertEqual(after["refused"]["who"], before["refused"]["who"] + 1, "only the barrier's")
        self.assert_nothing_open()

    def test_fragments_of_ipv4(self) -> None:
        datagram = self.sealed()
        whole = harness.udp_packet(FRIEND[4], GATEWAY[4], 40000, KNOCK_PORT, datagram)
        self.sees_nothing(lambda: self.send_fragments(whole))
        self.sees_nothing(lambda: self.send_ipv4(whole, more=True))
        self.works(datagram)

    def send_fragments(self, whole: bytes) -> None:
        self.send_ipv4(whole[:160], more=True, number=7)
        self.send_ipv4(whole[160:], offset=160, number=7)

    def send_ipv4(self, data: bytes, *, more: bool = False, offset: int = 0, number: int = 9) -> None:
        packet = harness.ipv4_packet(FRIEND[4], GATEWAY[4], data, more=more, offset=offset, number=number)
        harness.send_packet(self.friend, GATEWAY[4], packet)

    def test_fragments_of_ipv6(self) -> None:
        datagram = self.sealed()
        whole = harness.udp_packet(FRIEND[6], GATEWAY[6], 40000, KNOCK_PORT, datagram)
        pieces = [(whole[:160], 0, True), (whole[160:], 160, False)]
        self.sees_nothing(lambda: [self.send_ipv6_fragment(*piece, 7) for piece in pieces])
        self.sees_nothing(lambda: self.send_ipv6_fragment(whole, 0, False, 8))
        self.works(datagram, 6)

    def send_ipv6_fragment(self, data: bytes, offset: int, more: bool, number: int) -> None:
        fragment = harness.fragment_header(offset, more, number) + data
        packet = harness.ipv6_packet(FRIEND[6], GATEWAY[6], fragment, next_header=socket.IPPROTO_FRAGMENT)
        harness.send_packet(self.friend, GATEWAY[6], packet)

    def test_ipv6_with_an_extension_header(self) -> None:
        datagram = self.sealed()
        options = bytes([17, 0, 1, 4, 0, 0, 0, 0])
        data = options + harness.udp_packet(FRIEND[6], GATEWAY[6], 40000, KNOCK_PORT, datagram)
        packet = harness.ipv6_packet(FRIEND[6], GATEWAY[6], data, next_header=socket.IPPROTO_DSTOPTS)
        self.sees_nothing(lambda: harness.send_packet(self.friend, GATEWAY[6], packet))
        self.works(datagram, 6)

    def test_a_udp_length_that_lies(self) -> None:
        datagram = self.sealed()
        for length in (7, 8 + len(datagram) + 1, 0xFFFF):
            data = harness.udp_packet(FRIEND[4], GATEWAY[4], 40000, KNOCK_PORT, datagram, length=length)
            with self.subTest(length=length):
                self.sees_nothing(lambda data=data: self.send_ipv4(data))
        self.works(datagram)

    def test_bytes_after_the_udp_length_are_padding(self) -> None:
        for family in FAMILIES:
            datagram = self.sealed()
            data = harness.udp_packet(FRIEND[family], GATEWAY[family], 40000, KNOCK_PORT, datagram) + b"\x55" * 9
            make = harness.ipv4_packet if family == 4 else harness.ipv6_packet
            harness.send_packet(self.friend, GATEWAY[family], make(FRIEND[family], GATEWAY[family], data))
            self.assert_opens(self.friend, GATEWAY[family])

    def test_the_udp_checksum_is_not_relied_on(self) -> None:
        datagram = self.sealed()
        data = bytearray(harness.udp_packet(FRIEND[4], GATEWAY[4], 40000, KNOCK_PORT, datagram))
        data[6:8] = b"\0\0"
        self.send_ipv4(bytes(data))
        self.assert_opens(self.friend, GATEWAY[4])

    def test_another_port(self) -> None:
        datagram = self.sealed()
        self.sees_nothing(lambda: [self.send(datagram, family, KNOCK_PORT + 1) for family in FAMILIES])
        self.works(datagram)

    def test_another_hosts_address(self) -> None:
        """A packet that the gateway only forwards is not for it."""
        self.gateway.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        datagram = self.sealed()
        self.sees_nothing(lambda: self.friend.send(datagram, harness.STRANGER[4]))
        self.works(datagram)

    def test_payloads_that_are_not_canonical(self) -> None:
        good = self.alice.payload()
        changes = {
            "kind 0": {"kind": 0},
            "kind 4": {"kind": 4},
            "form 5": {"form": 5},
            "an address as seen": {"address": b"\x01" * 16},
            "reserved": {"reserved": b"\0\1"},
            "code": {"code": 100_000_000},
            "mapped address": {"form": 6, "address": bytes(10) + b"\xff\xff\x0a\x4d\x01\x02"},
            "unspecified": {"form": 4},
            "multicast": {"form": 4, "address": b"\xe0\0\0\1".ljust(16, b"\0")},
            "broadcast": {"form": 4, "address": b"\xff\xff\xff\xff".ljust(16, b"\0")},
            "no service": {"body": b"\0"},
            "service twice": {"body": spa1.services_body(["ssh", "ssh"])},
            "capitals": {"body": spa1.services_body(["SSH"])},
            "padding": {"body": spa1.services_body(["ssh"]) + b"\0\0\1"},
            "close with a duration": {"kind": spa1.CLOSE, "duration": 5},
        }
        for name, change in changes.items():
            payload = dataclasses.replace(good, timestamp=spa1.timestamp_now(), **change)
            with self.subTest(name), self.refusing("payload"):
                self.send(spa1.seal(self.alice.keys, payload))
        entry = self.explanation("payload")
        self.assertEqual((entry["step"], entry["client"]), (5, "alice"))


class Who(Refusals):
    def test_unknown_key(self) -> None:
        with self.refusing("who"):
            port = self.send(spa1.seal(harness.fresh_keys(self.gateway), self.alice.payload()))
        entries = [entry for entry in self.gateway.explained() if entry["source_port"] == port]
        self.assertEqual([(e["step"], e["reason"], e["source"]) for e in entries], [(4, "who", FRIEND[4])])

    def test_known_key_with_another_psk(self) -> None:
        keys = dataclasses.replace(self.alice.keys, psk=secrets.token_bytes(32))
        with self.refusing("who"):
            self.send(spa1.seal(keys, self.alice.payload()))

    def test_forgeries_in_a_clients_name_use_up_nothing_of_hers(self) -> None:
        """Of one who holds the HMAC key and her public key: more than she may send in a burst."""
        keys = dataclasses.replace(self.alice.keys, psk=secrets.token_bytes(32))
        forged = [spa1.seal(keys, self.alice.payload()) for _ in range(80)]
        before = self.gateway.refused("who")
        for datagram in forged:
            self.stranger.send(datagram, GATEWAY[4])
        eventually(lambda: self.gateway.refused("who") >= before + len(forged), 10, "all of them judged")
        self.assertEqual(self.gateway.refused("rate"), 0)
        self.works(self.sealed())

    def test_another_gateways_keys(self) -> None:
        other = spa1.public_key(secrets.token_bytes(32))
        with self.refusing("tag"):
            keys = dataclasses.replace(self.alice.keys, gateway_public=other)
            self.send(spa1.seal(keys, self.alice.payload()))
        with self.refusing("tag"):
            keys = dataclasses.replace(self.alice.keys, hmac_key=secrets.token_bytes(32))
            self.send(spa1.seal(keys, self.alice.payload()))

    def test_ephemeral_key_of_low_order(self) -> None:
        payload = self.alice.payload()
        for point in (bytes(32), b"\1" + bytes(31)):
            message = point + secrets.token_bytes(250)
            day = payload.timestamp // spa1.DAY_NS
            with self.subTest(point=point.hex()), self.refusing("who"):
                self.send(spa1.wrap(self.gateway.public, self.gateway.hmac_key, message, day))

    def test_revoked_client(self) -> None:
        self.gateway.keys("revoke", "alice")
        eventually(lambda: self.gateway.status()["clients"]["revoked"] == 1, 2)
        with self.refusing("who"):
            self.send(self.sealed())

    def test_expired_client(self) -> None:
        bob = Outside.add(self.gateway, "bob", expires="2020-01-01T00:00:00Z")
        with self.refusing("who"):
            bob.open(self.friend, GATEWAY[4])
        self.assertEqual(self.gateway.status()["clients"]["expired"], 1)

    def test_a_client_expires_with_its_door_open(self) -> None:
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
        bob = Outside.add(self.gateway, "bob", expires=end)
        bob.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4], seconds=1.5)
        eventually(lambda: not self.gateway.entries(), 6, "shut when the client expired")
        with self.refusing("who"):
            bob.open(self.friend, GATEWAY[4])

    def test_broken_file_disables_that_client_alone(self) -> None:
        bob = Outside.add(self.gateway, "bob")
        path = self.gateway.dir / "clients.d" / "bob.toml"
        whole = path.read_text()
        path.write_text(whole + "nonsense = = 1\n")
        eventually(lambda: self.gateway.status()["clients"]["broken"] == 1, 2)
        with self.refusing("who"):
            bob.open(self.friend, GATEWAY[4])
        path.write_text(whole)
        eventually(lambda: self.gateway.status()["clients"]["broken"] == 0, 2)
        bob.open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])

    def test_more_than_a_client_may_send(self) -> None:
        # Sealed before the first is sent: on a busy machine sealing may take longer than the rate allows for.
        sealed = [spa1.seal(self.alice.keys, self.alice.payload(spa1.CLOSE)) for _ in range(150)]
        with self.friend.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for datagram in sealed:
                with contextlib.suppress(ConnectionRefusedError):
                    udp.sendto(datagram, (GATEWAY[4], KNOCK_PORT))
        eventually(lambda: self.gateway.refused("rate") >= 20, what="what is over is dropped")
        self.assertGreaterEqual(self.gateway.status()["accepted"]["close"], 50, "the burst")


class Invites(Refusals):
    def new_device(self) -> spa1.ClientKeys:
        return harness.fresh_keys(self.gateway)

    def enroll(self, text: str, keys: spa1.ClientKeys) -> None:
        self.send(harness.enroll_datagram(text, keys))

    def invite_state(self, name: str) -> str | None:
        invites = self.gateway.keys_json("list")["invites"]
        return next((invite["state"] for invite in invites if invite["name"] == name), None)

    def spent_by(self, keys: spa1.ClientKeys, name: str = "bob") -> bool:
        clients = self.gateway.keys_json("list")["clients"]
        return any(c["name"] == name and c["public_key"] == spa1.to_base64(keys.public) for c in clients)

    def test_an_enrolled_device_opens(self) -> None:
        text, keys = self.gateway.invite("bob"), self.new_device()
        self.assertEqual(self.invite_state("bob"), "live")
        self.enroll(text, keys)
        eventually(lambda: self.spent_by(keys))
        self.assertEqual(self.gateway.status()["accepted"]["enroll"], 1)
        Outside(keys).open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])

    def test_a_repeated_enroll_is_harmless(self) -> None:
        text, keys = self.gateway.invite("bob"), self.new_device()
        self.enroll(text, keys)
        eventually(lambda: self.spent_by(keys))
        before = self.gateway.refused("enroll", "policy", "replay")
        self.enroll(text, keys)
        self.barrier()
        self.assertEqual(self.gateway.refused("enroll", "policy", "replay"), before)
        self.assertTrue(self.spent_by(keys))
        self.gateway.restart()
        self.enroll(text, keys)
        self.barrier()
        Outside(keys).open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])

    def test_spent_invite(self) -> None:
        text, first, second = self.gateway.invite("bob"), self.new_device(), self.new_device()
        self.enroll(text, first)
        eventually(lambda: self.spent_by(first))
        with self.refusing("enroll"):
            self.stranger.send(harness.enroll_datagram(text, second), GATEWAY[4])
        self.assertEqual(self.explanation("enroll")["step"], 8)
        log = self.gateway.log()
        self.assertIn(harness.STRANGER[4], log, "both sources are reported")
        self.assertIn(FRIEND[4], log, "both sources are reported")
        with self.refusing("who"):
            Outside(second).open(self.friend, GATEWAY[4])
        self.gateway.kill9()
        self.gateway.start()
        with self.refusing("enroll"):
            self.enroll(text, second)
        self.assertTrue(self.spent_by(first))

    def test_raced_invite_works_for_one(self) -> None:
        for round_number in range(5):
            name = f"racer{round_number}"
            text, keys = self.gateway.invite(name), [self.new_device() for _ in range(4)]
            datagrams = [harness.enroll_datagram(text, key) for key in keys]
            before = self.gateway.refused("enroll")
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self.send, datagrams))
            eventually(lambda before=before: self.gateway.refused("enroll") == before + 3, what="three of four refused")
            self.assertEqual(sum(self.spent_by(key, name) for key in keys), 1)

    def test_an_invite_whose_file_forgot_works_once_all_the_same(self) -> None:
        text = self.gateway.invite("bob")
        (file,) = (self.gateway.dir / "invites.d").glob("bob@*.toml")
        unspent = file.read_bytes()
        first, second = self.new_device(), self.new_device()
        self.enroll(text, first)
        eventually(lambda: self.spent_by(first), what="spent")
        (self.gateway.dir / "clients.d" / "bob.toml").unlink()
        file.write_bytes(unspent)
        eventually(lambda: self.invite_state("bob") == "live", what="as from an old backup")
        self.gateway.restart()
        with self.refusing("enroll"):
            self.enroll(text, second)
        self.assertFalse(self.enrolled("bob"))
        self.assertRegex(self.gateway.log(), f"two devices used one invite.*{FRIEND[4]}.*{FRIEND[4]}")

    def test_ended_invite(self) -> None:
        text = self.gateway.invite("bob", "ssh", "--valid", "2s")
        eventually(lambda: self.invite_state("bob") == "ended", 6, "ended")
        with self.refusing("enroll", "who"):
            self.enroll(text, self.new_device())
        self.assertFalse(self.enrolled("bob"))

    def test_kinds_under_the_wrong_key(self) -> None:
        text = self.gateway.invite("bob")
        invited = spa1.parse_invite(text).keys
        for kind in (spa1.OPEN, spa1.CLOSE):
            with self.refusing("enroll", "policy"):
                self.send(spa1.seal(invited, self.alice.payload(kind)))
        new = self.new_device()
        payload = spa1.enroll_payload(new.public, new.psk, timestamp=spa1.timestamp_now())
        with self.refusing("enroll", "policy"):
            self.send(spa1.seal(self.alice.keys, payload))
        self.enroll(text, new)
        eventually(lambda: self.spent_by(new), what="the invite was not spent by any of it")

    def test_new_keys_that_are_refused(self) -> None:
        text = self.gateway.invite("bob")
        invited, good = spa1.parse_invite(text).keys, self.new_device()
        cases = {
            "not canonical": ((2**255 - 19).to_bytes(32, "little"), good.psk),
            "bit 255": (bytes(31) + b"\x80", good.psk),
            "low order": (b"\1" + bytes(31), good.psk),
            "PSK of zeros": (good.public, bytes(32)),
            "the gateway's": (self.gateway.public, good.psk),
            "a client's": (self.alice.keys.public, good.psk),
            "the invite's": (invited.public, good.psk),
        }
        for name, (public, psk) in cases.items():
            payload = spa1.enroll_payload(public, psk, timestamp=spa1.timestamp_now())
            with self.subTest(name), self.refusing("enroll"):
                self.send(spa1.seal(invited, payload))
        self.enroll(text, good)
        eventually(lambda: self.spent_by(good), what="the invite was not spent by any of it")

    def test_a_name_is_reserved_once(self) -> None:
        self.gateway.invite("bob")
        for name in ("bob", "alice"):
            again = self.gateway.keys("invite", name, "--services", "ssh", check=False)
            self.assertEqual((again.returncode, again.stdout), (1, ""), again.stderr)

    def test_without_a_daemon_nothing_is_lost(self) -> None:
        self.gateway.stop()
        text, keys = self.gateway.invite("bob"), self.new_device()
        self.gateway.start()
        self.enroll(text, keys)
        eventually(lambda: self.spent_by(keys))
        self.gateway.kill9()
        self.gateway.start()
        Outside(keys).open(self.friend, GATEWAY[4])
        self.assert_opens(self.friend, GATEWAY[4])

    def test_a_client_file_taken_away_stays_away(self) -> None:
        text, keys = self.gateway.invite("bob"), self.new_device()
        self.enroll(text, keys)
        path = self.gateway.dir / "clients.d" / "bob.toml"
        eventually(path.exists)
        path.unlink()
        self.gateway.restart()
        self.assertFalse(path.exists())
        with self.refusing("who"):
            Outside(keys).open(self.friend, GATEWAY[4])
