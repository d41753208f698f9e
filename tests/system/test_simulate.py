"""`simulate`: recorded packets are judged as the daemon would, and nothing comes of it."""

from __future__ import annotations

import hashlib
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
import spa1
from harness import ADMIN, FRIEND, GATEWAY, KNOCK_PORT, REASONS, STRANGER, Outside, SystemTest, eventually, ipv4_packet

RAW, ETHERNET, COOKED, COOKED2, NULL, LOOP = 101, 1, 113, 276, 0, 108
SECOND = 1_000_000_000


def setUpModule() -> None:
    harness.require()


def knock_packet(data: bytes, source: str = FRIEND[4], port: int = KNOCK_PORT) -> bytes:
    udp = harness.udp_packet(source, GATEWAY[4] if "." in source else GATEWAY[6], 40000, port, data)
    if "." in source:
        return ipv4_packet(source, GATEWAY[4], udp)
    return harness.ipv6_packet(source, GATEWAY[6], udp)


def pcap(packets: Iterable[tuple[int, bytes]], link: int = RAW, snap: int = 262144) -> bytes:
    """A capture with nanoseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snap, link)]
    for at, packet in packets:
        kept = packet[:snap]
        parts += [struct.pack("<IIII", at // SECOND, at % SECOND, len(kept), len(packet)), kept]
    return b"".join(parts)


def pcapng(packets: Iterable[tuple[int, bytes]], link: int = RAW) -> bytes:
    """The same in the other format, in microseconds."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)), block(1, struct.pack("<HHI", link, 0, 262144))]
    for at, packet in packets:
        high, low = divmod(at // 1000, 2**32)
        parts.append(block(6, struct.pack("<IIIII", 0, high, low, len(packet), len(packet)) + packet))
    return b"".join(parts)


class Simulate(SystemTest):
    with_sshd = False

    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside(harness.fresh_keys(self.gateway))
        self.alice.write_file(self.gateway, "alice", ["ssh"])
        self.now = time.time_ns() // SECOND * SECOND
        self.path = self.network.folder / "knocks.pcap"

    def knock(self, *services: str, off: float = 0.0, of: Outside | None = None, **fields: Any) -> bytes:
        timestamp = self.now + int(off * SECOND)
        payload = spa1.service_payload(spa1.OPEN, services or ("ssh",), timestamp=timestamp, **fields)
        return spa1.seal((of or self.alice).keys, payload)

    def simulate(self, *options: str, code: int = 0) -> dict[str, Any]:
        done = self.gateway.control("simulate", "--capture", str(self.path), "--json", *options, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return harness.as_object(done.stdout)

    def judge(self, *packets: bytes, options: Iterable[str] = (), link: int = RAW) -> list[dict[str, Any]]:
        """The packets a second apart, from now on."""
        self.path.write_bytes(pcap(((self.now + n * SECOND, packet) for n, packet in enumerate(packets)), link))
        return list(self.simulate(*options)["packets"])

    def picture(self) -> list[str]:
        files = [path for path in sorted(self.gateway.dir.rglob("*")) if path.is_file()]
        facts = [f"{path} {path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
        rules = self.gateway.host.run("sh", "-ec", "iptables-save; ip6tables-save; ipset save").stdout
        return facts + [line for line in rules.splitlines() if not line.startswith("#")]

    # Without a daemon

    def test_each_step_tells_its_reason(self) -> None:
        bob, carol, nobody = (Outside(harness.fresh_keys(self.gateway)) for _ in range(3))
        bob.write_file(self.gateway, "bob", ["ssh"], revoked="2026-01-01T00:00:00Z")
        carol.write_file(self.gateway, "carol", ["ssh"], address="explicit")
        good = self.knock()
        wrong_psk = Outside(spa1.ClientKeys(**{**vars(self.alice.keys), "psk": bytes(31) + b"\1"}))
        cases = (
            (knock_packet(good), None, "opens ssh for 10.77.1.2/32 for 30s"),
            (knock_packet(good), "copy", "an exact copy"),
            (knock_packet(good, STRANGER[4]), "copy", "sent on from another address"),
            (knock_packet(self.knock()), "replay", "used before in this capture"),
            (knock_packet(bytes(300)), "tag", ""),
            (knock_packet(bytes(20)), "shape", "20 octets"),
            (knock_packet(self.knock(of=nobody)), "who", f"claimed is {fingerprint(nobody.keys.public)}"),
            (knock_packet(self.knock(of=wrong_psk)), "who", "do not decrypt"),
            (knock_packet(self.knock(of=bob)), "who", "revoked"),
            (knock_packet(self.knock(off=-3600)), "time", "s off this gateway's clock"),
            (knock_packet(self.knock("db", off=1)), "policy", "db is not among the client's services"),
            (knock_packet(self.knock(of=carol)), "policy", "must send its address"),
            (knock_packet(self.knock("ssh", "db", off=2, duration=60)), None, "opens ssh for 10.77.1.2/32 for 1m"),
            (knock_packet(self.knock(off=1.5)), "older", "later request"),
            (knock_packet(self.knock(off=3), FRIEND[6]), None, "opens ssh for fd77:1::2/128 for 30s"),
        )
        before = self.picture()
        judged = self.judge(*(packet for packet, *_ in cases))
        self.assertEqual(len(judged), len(cases))
        for number, ((_, reason, part), packet) in enumerate(zip(cases, judged, strict=True), 1):
            with self.subTest(number=number, reason=reason):
                self.assertEqual((packet["number"], packet["reason"]), (number, reason), packet)
                self.assertIn(part, packet["detail"] or " ".join(packet["acts"]))
                passed = [step["step"] for step in packet["passed"]]
                if reason:
                    self.assertEqual(sorted(set(passed)), list(range(1, packet["step"])), packet)
        self.assertEqual([step["step"] for step in judged[0]["passed"]], [1, 2, 3, 4, 5, 6, 7, 8])
        self.assertIn("within its window of 60 s", judged[0]["passed"][5]["fact"])
        self.assertEqual((judged[0]["source"], judged[0]["client"]), (FRIEND[4], "alice"))
        self.assertEqual(judged[9]["difference_s"], -3609)
        self.assertEqual(self.picture(), before, "it leaves no trace")
        sums = self.simulate()
        self.assertEqual((sums["read"], sums["accepted"], sums["other"], sums["error"]), (len(cases), 3, 0, None))
        self.assertEqual(set(sums["refused"]), set(REASONS))
        self.assertEqual(sum(sums["refused"].values()), len(cases) - 3)

    def test_people_read_it_too_and_no_secret_is_in_it(self) -> None:
        self.judge(knock_packet(self.knock()), knock_packet(self.knock(off=-600)))
        text = self.gateway.control("simulate", "--capture", str(self.path)).stdout
        self.assertRegex(text, r"(?m)^packet 1  \S+Z  10\.77\.1\.2:40000 -> 10\.77\.1\.1:62201  \d+ octets$")
        self.assertIn("  4 who      sealed with the key and the PSK of client alice, which may send\n", text)
        self.assertIn("  accepted: opens ssh for 10.77.1.2/32 for 30s\n", text)
        self.assertIn("  refused at step 6, time: -601 s off this gateway's clock\n    try: ", text)
        self.assertTrue(text.endswith("2 packets: accepted 1, refused time 1, to no knock port 0\n"), text)
        for secret in (self.alice.keys.psk, self.gateway.hmac_key, self.alice.keys.private):
            self.assertNotIn(spa1.to_base64(secret), text)

    def test_every_link_type(self) -> None:
        families = {4: b"\x08\x00", 6: b"\x86\xdd"}
        for version, kind in families.items():
            packet = knock_packet(self.knock(), FRIEND[version])
            cooked2 = kind + bytes(8) + bytes([0, 6]) + bytes(8)
            frames = {
                RAW: packet,
                ETHERNET: bytes(12) + kind + packet,
                COOKED: bytes(14) + kind + packet,
                COOKED2: cooked2 + packet,
                NULL: struct.pack("=I", 2 if version == 4 else 10) + packet,
                LOOP: struct.pack("!I", 2 if version == 4 else 24) + packet,
            }
            frames_with_vlan = {ETHERNET: bytes(12) + b"\x81\x00\x00\x05" + kind + packet}
            for link, frame in [*frames.items(), *frames_with_vlan.items()]:
                with self.subTest(version=version, link=link):
                    (judged,) = self.judge(frame, link=link)
                    self.assertTrue(judged["accepted"], judged)

    def test_the_other_format(self) -> None:
        packet = knock_packet(self.knock())
        self.path.write_bytes(pcapng([(self.now + 2 * SECOND, packet), (self.now + 3 * SECOND, packet)]))
        first, second = self.simulate()["packets"]
        self.assertEqual((first["accepted"], second["reason"]), (True, "copy"))
        self.assertIn("2.0 s behind this gateway's clock", first["passed"][5]["fact"])

    def test_the_time_of_the_capture_or_another(self) -> None:
        hour_ago = self.now - 3600 * SECOND
        old = spa1.service_payload(spa1.OPEN, ("ssh",), timestamp=hour_ago)
        self.path.write_bytes(pcap([(hour_ago, knock_packet(spa1.seal(self.alice.keys, old)))]))
        self.assertTrue(self.simulate()["packets"][0]["accepted"])
        (late,) = self.simulate("--at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now // SECOND)))["packets"]
        self.assertEqual((late["reason"], late["difference_s"]), ("time", -3600))
        self.path.write_bytes(pcap([(hour_ago, b"\x45"), (hour_ago + 5 * SECOND, knock_packet(self.knock(off=5)))]))
        shifted = self.simulate("--at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now // SECOND)))
        self.assertTrue(shifted["packets"][-1]["accepted"], "the second one is judged five seconds later")

    def test_what_is_no_knock_is_counted_and_told_on_demand(self) -> None:
        arp = bytes(12) + b"\x08\x06" + bytes(28)
        elsewhere = bytes(12) + b"\x08\x00" + knock_packet(b"x" * 300, port=53)
        self.assertEqual(self.judge(arp, elsewhere, link=ETHERNET), [])
        self.assertEqual(self.simulate()["other"], 2)
        told = self.judge(arp, elsewhere, link=ETHERNET, options=["--all"])
        self.assertEqual([packet["other"] for packet in told][1], "UDP to port 53, where no knock is listened for")
        to_another = ipv4_packet(FRIEND[4], ADMIN[4], harness.udp_packet(FRIEND[4], ADMIN[4], 7, KNOCK_PORT, self.knock()))
        (refused,) = self.judge(to_another)
        self.assertEqual(refused["reason"], "shape")
        self.assertTrue(self.judge(to_another, options=["--any-address"])[0]["accepted"])

    def test_a_file_that_is_cut_says_where(self) -> None:
        whole = pcap((self.now, knock_packet(self.knock(off=n))) for n in range(3))
        self.path.write_bytes(whole[:-10])
        facts = self.simulate(code=1)
        self.assertEqual((facts["read"], facts["accepted"]), (2, 2))
        self.assertIn("packet 3 cannot be read", facts["error"])
        self.path.write_bytes(whole + struct.pack("<IIII", 0, 0, 0xFFFF_FFF0, 0xFFFF_FFF0))
        self.assertIn("packet 4 cannot be read", self.simulate(code=1)["error"])
        self.path.write_bytes(pcap([(self.now, knock_packet(self.knock()))], snap=96))
        (short,) = self.simulate()["packets"]
        self.assertEqual((short["reason"], short["try"]), ("shape", ["capture whole packets: tcpdump -s 0"]))

    def test_what_is_no_capture(self) -> None:
        cases: list[tuple[Path, int]] = [(self.network.folder, 1), (self.network.folder / "none", 1)]
        self.path.write_bytes(b"junk" * 100)
        cases.append((self.path, 1))
        for path, code in cases:
            done = self.gateway.control("simulate", "--capture", str(path), check=False)
            self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
            self.assertIn(str(path), done.stderr)
        self.path.write_bytes(pcap([], link=147))
        done = self.gateway.control("simulate", "--capture", str(self.path), check=False)
        self.assertIn("link type 147", done.stderr)
        (self.gateway.dir / "server.toml").write_text("ports = 1\n")
        self.assertEqual(self.gateway.control("simulate", "--capture", str(self.path), check=False).returncode, 78)

    def test_bounded_memory_for_a_long_capture(self) -> None:
        junk = knock_packet(bytes(300))
        peak = (
            "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
            "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        peaks = []
        for count in (100, 30_000):
            self.path.write_bytes(pcap((self.now + n, junk) for n in range(count)))
            command = [harness.BIN / "spa-server", "simulate", "--dir", self.gateway.dir, "--capture", self.path, "--json"]
            said = self.gateway.host.run(sys.executable, "-c", peak, *command, timeout=120).stdout.split()
            self.assertEqual(said[0], "0")
            peaks.append(int(said[1]))
        self.assertLess(peaks[1] - peaks[0], 4096, f"kB at the most: {peaks}")

    # Enrollment, codes

    def test_enrolls(self) -> None:
        invite = self.gateway.invite("dora")
        new, other = (Outside(harness.fresh_keys(self.gateway)) for _ in range(2))
        first, second = (harness.enroll_datagram(invite, of.keys) for of in (new, other))
        knock = self.knock(of=new)
        judged = self.judge(*map(knock_packet, (first, harness.enroll_datagram(invite, new.keys), second, knock)))
        self.assertEqual([packet["reason"] for packet in judged], [None, None, "enroll", "who"], judged)
        self.assertEqual(judged[0]["acts"], ["enrolls dora"])
        self.assertIn("would have made it a client's", " ".join(judged[3]["try"]))
        self.assertEqual(self.gateway.keys_json("list")["invites"][0]["state"], "live")

    # Beside the daemon

    def capture_live(self, send: Any) -> dict[str, Any]:
        """What tcpdump records of it."""
        argv = self.gateway.host.argv("tcpdump", "-i", "any", "-U", "-s", "0", "-w", str(self.path), "udp", "port", str(KNOCK_PORT))
        dump = harness.Process(argv)
        self.addCleanup(dump.end)
        eventually(lambda: any("listening on" in line for line in dump.err), 10, "tcpdump")
        send()
        eventually(lambda: self.path.exists() and self.path.stat().st_size > 300, 5, "recorded")
        dump.process.terminate()
        dump.wait()
        return self.simulate()

    def test_beside_the_daemon_its_record_counts(self) -> None:
        self.gateway.start()

        def send() -> None:
            self.alice.open(self.friend, GATEWAY[4], duration=60)
            eventually(self.gateway.grants)

        status = self.gateway.status()
        facts = self.capture_live(send)
        self.assertEqual(facts["record"]["state"], "daemon")
        (judged,) = facts["packets"]
        self.assertEqual(judged["reason"], "replay")
        self.assertIn("in this gateway's record", judged["detail"])
        (fresh,) = self.simulate("--fresh")["packets"]
        self.assertEqual(fresh["acts"], [f"opens ssh for {FRIEND[4]}/32 for 1m"])
        self.assertEqual(self.gateway.status()["refused"], status["refused"])
        self.gateway.kill9()
        facts = self.simulate()
        self.assertEqual((facts["record"]["state"], facts["packets"][0]["reason"]), ("file", "replay"))
        self.gateway.start()
        self.gateway.stop()
        (self.gateway.dir / "state" / "record.redb").unlink()
        facts = self.simulate()
        self.assertEqual((facts["record"]["state"], facts["packets"][0]["accepted"]), ("unknown", True))

    def test_what_it_finds_fresh_the_daemon_still_takes(self) -> None:
        self.gateway.start()
        datagram = self.knock()
        (judged,) = self.judge(knock_packet(datagram))
        self.assertTrue(judged["accepted"], judged)
        self.assertEqual(self.gateway.grants(), [])
        self.friend.send(datagram, GATEWAY[4])
        eventually(self.gateway.grants)


def fingerprint(public: bytes) -> str:
    return "SHA256:" + spa1.to_base64(hashlib.sha256(public).digest())
