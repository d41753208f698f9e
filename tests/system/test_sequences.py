"""The classic fallback: real knock, real knockd, and each of knockd's known faults, which must not be ours."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
import random
import re
import shutil
import socket
import struct
import threading
import time
import unittest
from datetime import datetime
from pathlib import Path

import harness
from harness import (
    FAMILIES,
    FRIEND,
    FRIEND_TOO,
    GATEWAY,
    Gateway,
    Host,
    Outside,
    Process,
    Service,
    SystemTest,
    eventually,
    inet,
    never,
    server_toml,
)

TCP = ("7311/tcp", "15002/tcp", "9040/tcp")
UDP = ("7312/udp", "15003/udp", "9041/udp")
MIXED = ("7313/tcp", "15004/udp", "9042/tcp", "9043/udp")
SYN = 0x02


def setUpModule() -> None:
    harness.require("knock")


def sequence(name: str = "card", service: str = "ssh", **keys: object) -> str:
    lines = [f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join([f'[[sequence]]\nname = "{name}"\nservice = "{service}"', *lines]) + "\n"


def toml(*sequences: str, **options: object) -> str:
    return server_toml(Service(), Service("db", ["tcp/5432"]), **options) + "".join(sequences)  # type: ignore[arg-type]


def knock(host: Host, to: str, *stages: str, delay: int = 20) -> None:
    """Debian's knock."""
    family = "-6" if ":" in to else "-4"
    host.run("knock", family, "-d", str(delay), to, *(stage.replace("/", ":") for stage in stages))


def tcp_packet(source: str, to: str, source_port: int, port: int, number: int, flags: int = SYN) -> bytes:
    """An IPv4 packet with a TCP header; its checksum does not matter to who only listens."""
    tcp = struct.pack("!HHIIBBHHH", source_port, port, number, 0, 5 << 4, flags, 64240, 0, 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0)
    return ip + socket.inet_aton(source) + socket.inet_aton(to) + tcp


class Sequences(SystemTest):
    """A gateway with sequences, and nobody enrolled."""

    with_sshd = False

    def begin(self, *sequences: str, **options: object) -> Gateway:
        self.gateway.configure(toml(*sequences, **options))
        self.serve()
        return self.gateway.start()

    def serve(self) -> None:
        """Somebody listens on ports 22 and 5432 of the gateway, in both families."""
        for port in (22, 5432):
            listener = self.network.gateway.socket(socket.AF_INET6, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("::", port))
            listener.listen(64)
            self.addCleanup(listener.close)

    def granted(self, address: str) -> list[dict[str, object]]:
        return [grant for grant in self.gateway.grants() if grant["address"] == address]

    def opens(self, address: str, service: str = "ssh") -> None:
        """A grant by a sequence for this address, and the door is open."""
        (grant,) = eventually(lambda: self.granted(address), 5, f"a grant for {address}")
        self.assertEqual((grant["client"], grant["via"], grant["service"]), (None, "sequence", service))

    def close(self, address: str) -> None:
        self.gateway.control("close", "--address", address)
        self.assertEqual(self.granted(address), [])

    def stays_shut(self, seconds: float = 0.4) -> None:
        never(lambda: self.gateway.grants(), seconds, "a grant")

    def failures(self) -> list[str]:
        return [entry["detail"] for entry in self.gateway.explained(100) if entry["reason"] == "sequence"]

    def syns(self, *packets: bytes, host: Host | None = None) -> None:
        with (host or self.friend).socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for packet in packets:
                raw.sendto(packet, (GATEWAY[4], 0))


class Doors(Sequences):
    def test_debians_knock_opens_our_door(self) -> None:
        kinds = {"tcp": TCP, "udp": UDP, "mixed": MIXED}
        self.begin(*(sequence(name, knocks=stages) for name, stages in kinds.items()))
        for stages, family in itertools.product(kinds.values(), FAMILIES):
            with self.subTest(stages=stages, family=family):
                self.assert_filtered((self.friend, family, None, 22))
                knock(self.friend, GATEWAY[family], *stages)
                self.opens(FRIEND[family])
                self.assert_opens(self.friend, GATEWAY[family])
                self.assertEqual(self.friend.reach(GATEWAY[family], 5432), "filtered", "one service only")
                self.assertEqual(self.friend.reach(GATEWAY[family], 22, FRIEND_TOO[family]), "filtered")
                self.close(FRIEND[family])
                self.assert_filtered((self.friend, family, None, 22))
        self.assertIn("opened by sequence (replayable)", self.gateway.log())

    def test_our_client_opens_our_door(self) -> None:
        self.begin(sequence(knocks=MIXED))
        typed = ["7313:tcp", "15004/udp", "9042", "9043:udp"]
        for family in FAMILIES:
            answer = json.loads(self.client("knock", GATEWAY[family], *typed, "-d", "20", "--json").stdout)
            self.assertEqual([entry["port"] for entry in answer["sent"]], [7313, 15004, 9042, 9043])
            self.opens(FRIEND[family])
            self.assert_opens(self.friend, GATEWAY[family])

    def test_a_host_with_both_families_is_knocked_at_in_both(self) -> None:
        self.begin(sequence(knocks=UDP))
        self.client("knock", harness.HOST_NAME, *UDP, "-d", "20")
        for family in FAMILIES:
            self.opens(FRIEND[family])

    def test_bare_ports_of_udp(self) -> None:
        self.begin(sequence(knocks=UDP))
        self.client("knock", "-u", "-4", GATEWAY[4], *(stage.removesuffix("/udp") for stage in UDP))
        self.opens(FRIEND[4])

    def test_wrong_usage_sends_nothing(self) -> None:
        for wrong in (["70000"], ["tcp/7000"], [], ["7000/sctp"], ["7000", "-d", "1s"]):
            done = self.client("knock", GATEWAY[4], *wrong, check=False)
            self.assertEqual((done.returncode, done.stdout), (64, ""), wrong)

    def test_only_sources_that_are_named(self) -> None:
        self.begin(sequence(knocks=UDP, sources=[f"{FRIEND_TOO[4]}/32"]))
        knock(self.friend, GATEWAY[4], *UDP)
        eventually(lambda: [e for e in self.gateway.explained() if "not among the sequence's sources" in e["detail"]])
        self.assertEqual(self.gateway.grants(), [])

    def test_another_set_of_flags_where_the_sequence_says_so(self) -> None:
        self.begin(sequence(knocks=TCP, tcp_flags=["fin"]))
        knock(self.friend, GATEWAY[4], *TCP)
        self.stays_shut()
        ports = [int(stage.split("/")[0]) for stage in TCP]
        self.syns(*(tcp_packet(FRIEND[4], GATEWAY[4], 40000 + port % 999, port, 1, flags=1) for port in ports))
        self.opens(FRIEND[4])

    def test_off_unless_configured(self) -> None:
        self.begin()
        self.assertNotIn("sequences", self.gateway.status())
        threads = Path(f"/proc/{self.daemon_pid()}/task").glob("*/comm")
        self.assertFalse([name for name in threads if name.read_text().startswith("probes")])

    def test_dry_run_says_what_it_would_do(self) -> None:
        self.gateway.configure(toml(sequence(knocks=UDP)))
        self.gateway.start("--dry-run")
        knock(self.friend, GATEWAY[4], *UDP)
        eventually(lambda: "would open by sequence (replayable)" in self.gateway.log())
        self.assertEqual(self.gateway.entries(), {})

    def test_knocks_and_sequences_get_along(self) -> None:
        self.begin(sequence(knocks=TCP))
        alice = Outside.add(self.gateway, "alice")
        self.friend_knocks(TCP[:2])
        alice.open(self.friend, GATEWAY[4])
        eventually(lambda: self.granted(FRIEND[4]))
        self.friend_knocks(TCP[2:])
        eventually(lambda: len(self.granted(FRIEND[4])) == 2, 5, "a knock does not reset a sequence")

    def friend_knocks(self, stages: tuple[str, ...]) -> None:
        knock(self.friend, GATEWAY[4], *stages)

    def daemon_pid(self) -> int:
        """The daemon's own process id: what was started replaces itself by it."""
        return int(self.gateway.status()["pid"])


class Faults(Sequences):
    """knockd's known faults."""

    def test_a_wrong_port_resets_and_explain_says_so(self) -> None:
        self.begin(sequence(knocks=TCP))
        knock(self.friend, GATEWAY[4], *TCP[:2], "4444/tcp", TCP[2])
        eventually(lambda: any("after stage 2 of 3: 4444/tcp came" in detail for detail in self.failures()))
        self.assertEqual(self.gateway.grants(), [])
        knock(self.friend, GATEWAY[4], *TCP)
        self.opens(FRIEND[4])

    def test_a_stage_does_not_outlive_its_time(self) -> None:
        self.begin(sequence(knocks=TCP, within="2s"))
        knock(self.friend, GATEWAY[4], *TCP[:2])
        # Told by the timer: no packet comes meanwhile.
        eventually(lambda: any("after stage 2 of 3: its time was over" in detail for detail in self.failures()), 8)
        knock(self.friend, GATEWAY[4], TCP[2])
        self.stays_shut()

    def test_common_beginnings_are_all_followed(self) -> None:
        other = (*TCP[:2], "9999/udp")
        self.begin(sequence("one", knocks=TCP), sequence("two", "db", knocks=other))
        knock(self.friend, GATEWAY[4], *other)
        self.opens(FRIEND[4], "db")
        self.close(FRIEND[4])
        knock(self.friend, GATEWAY[4], *TCP)
        self.opens(FRIEND[4], "ssh")

    def test_what_check_refuses(self) -> None:
        wrong = {
            "70000": sequence(knocks=["7311/tcp", "70000/tcp", "9040/tcp"]),
            "at least 3": sequence(knocks=["7311/tcp", "9040/tcp"]),
            "belongs to service ssh": sequence(knocks=["7311/tcp", "22/tcp", "9040/tcp"]),
            "where knocks go": sequence(knocks=["7311/tcp", "62201/udp", "9040/tcp"]),
            "a plain scan": sequence(knocks=["7000/tcp", "7001/tcp", "7002/tcp"]),
            "or the other way round": sequence("a", knocks=TCP) + sequence("b", knocks=(*TCP, "1/udp")),
            "there is no service web": sequence(service="web", knocks=TCP),
        }
        for part, text in wrong.items():
            with self.subTest(part):
                self.gateway.configure(toml(text))
                done = self.gateway.control("check", check=False)
                self.assertEqual((done.returncode, done.stdout), (78, ""))
                self.assertIn(part, done.stderr)

    def test_check_says_what_a_sequence_costs_and_what_listens(self) -> None:
        self.gateway.configure(toml(sequence(knocks=TCP)))
        done = self.gateway.control("check")
        self.assertIn("replayable", done.stdout)
        listener = self.network.gateway.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind(("0.0.0.0", 15002))
        listener.listen()
        done = self.gateway.control("check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn("15002/tcp", done.stderr)

    def test_every_address_of_the_interface(self) -> None:
        self.begin(sequence(knocks=TCP))
        later = {4: "10.77.1.77", 6: "fd77:1::77"}
        for family, length in ((4, 24), (6, 64)):
            address = f"{later[family]}/{length}"
            nodad = ["nodad"] if family == 6 else []
            self.network.gateway.run("ip", "addr", "add", address, "dev", "friend0", *nodad)

            def knocked(family: int = family) -> bool:
                knock(self.friend, later[family], *TCP)
                return bool(self.granted(FRIEND[family]))

            eventually(knocked, 5, f"opens by {later[family]}")

    def test_what_is_for_others_does_not_count(self) -> None:
        self.begin(sequence(knocks=UDP))
        ports = [int(stage.split("/")[0]) for stage in UDP]
        with self.friend.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for port in ports:
                udp.sendto(b"", ("10.77.1.255", port))
                self.friend.send(b"", "10.77.2.2", port)
        self.stays_shut()

    def test_duplicates_of_a_packet_do_not_matter(self) -> None:
        self.begin(sequence(knocks=TCP))
        ports = [int(stage.split("/")[0]) for stage in TCP]
        first, second, third = (tcp_packet(FRIEND[4], GATEWAY[4], 50000 + n, port, 77) for n, port in enumerate(ports))
        self.syns(first, first, second, first, second, third)
        self.opens(FRIEND[4])

    def test_what_opens_a_web_page_meanwhile_does_not_reset(self) -> None:
        listener = self.network.gateway.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind(("0.0.0.0", 80))
        listener.listen()
        self.begin(sequence(knocks=TCP))
        knock(self.friend, GATEWAY[4], *TCP[:2], "80/tcp", TCP[2])
        self.opens(FRIEND[4])

    def test_an_interface_that_comes_late_and_goes_and_comes_again(self) -> None:
        self.network.unlink("friend")
        self.begin(sequence(knocks=TCP), interfaces=["friend0"])
        for _ in range(2):
            self.network.link("friend")

            def knocked() -> bool:
                knock(self.friend, GATEWAY[4], *TCP)
                return bool(self.granted(FRIEND[4]))

            eventually(knocked, 10, "opens through the interface")
            self.close(FRIEND[4])
            self.network.unlink("friend")

    def test_a_broken_reload_keeps_the_old_doors_and_a_good_one_brings_new_ones(self) -> None:
        self.begin(sequence(knocks=TCP))
        broken = (sequence(knocks=["7311/tcp"]), sequence(rolling=True), sequence(one_time="absent"), "[[sequence\n")
        for text in broken:
            with self.subTest(text):
                self.gateway.configure(toml(text))
                self.gateway.reload()
                eventually(lambda: self.gateway.status()["config"]["state"] == "rejected")
                knock(self.friend, GATEWAY[4], *TCP)
                self.opens(FRIEND[4])
                self.close(FRIEND[4])
                self.gateway.configure(toml(sequence(knocks=TCP)))
                self.gateway.reload()
                eventually(lambda: self.gateway.status()["config"]["state"] == "current")
        self.gateway.configure(toml(sequence(knocks=UDP)))
        self.gateway.reload()

        def knocked() -> bool:
            knock(self.friend, GATEWAY[4], *UDP)
            return bool(self.granted(FRIEND[4]))

        eventually(knocked, 5, "the new one opens")
        self.close(FRIEND[4])
        knock(self.friend, GATEWAY[4], *TCP)
        self.stays_shut()

    def test_a_thousand_sequences(self) -> None:
        def stages(number: int) -> tuple[str, ...]:
            return ("7311/tcp", f"{20000 + number // 10}/tcp", f"{30000 + number}/udp")

        self.begin(*(sequence(f"s{number}", knocks=stages(number)) for number in range(1000)))
        for number in (0, 499, 999):
            knock(self.friend, GATEWAY[4], *stages(number))
            self.opens(FRIEND[4])
            self.close(FRIEND[4])


class Floods(Sequences):
    def test_sweeps_of_all_ports_in_order_at_random_and_repeated(self) -> None:
        self.begin(sequence("tcp", knocks=TCP), sequence("udp", knocks=("44001/udp", "8/udp", "31000/udp")))
        shuffled = list(range(1, 65536))
        random.Random(5).shuffle(shuffled)
        orders = [range(1, 65536), range(65535, 0, -1), range(1, 65536), shuffled]
        number = itertools.count(1)
        with self.friend.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for order in orders:
                for port in order:
                    raw.sendto(tcp_packet(FRIEND[4], GATEWAY[4], 40000, port, next(number)), (GATEWAY[4], 0))
                self.assertEqual(self.gateway.grants(), [])
        eventually(lambda: self.gateway.status()["sequences"]["probes"] > 65535, 10, "the sweep was seen")
        self.assertEqual(self.gateway.grants(), [])
        knock(self.friend, GATEWAY[6], *TCP)
        self.opens(FRIEND[6])

    def test_a_million_spoofed_sources_do_not_stop_an_honest_one(self) -> None:
        """Each spoofed source sends the first packet of the sequence: the worst that somebody who saw it could do."""
        self.begin(sequence(knocks=UDP))
        pid = self.gateway.status()["pid"]
        before = resident(pid)
        flood = threading.Thread(target=self.flood, args=(1_000_000,))
        flood.start()
        opened = 0
        while flood.is_alive():
            self.client("knock", "-6", GATEWAY[6], *UDP, "-d", "50")
            try:
                eventually(lambda: self.granted(FRIEND[6]), 1)
            except AssertionError:
                continue
            opened += 1
            self.close(FRIEND[6])
        flood.join()
        self.assertGreater(opened, 0, "an honest sequence while the flood ran")
        status = self.gateway.status()["sequences"]
        self.assertGreater(status["probes"], 300_000)
        self.assertLessEqual(status["sources"], 65_536)
        self.assertLess(resident(pid) - before, 40 << 20, "11 MiB for sources, and the pages of the ring")

    def flood(self, count: int) -> None:
        port = int(UDP[0].split("/")[0])
        udp = struct.pack("!HHHH", 40000, port, 8, 0)
        packet = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0))
        packet += bytes(4) + socket.inet_aton(GATEWAY[4]) + udp
        with self.stranger.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for number in range(count):
                packet[12:16] = struct.pack("!I", 0x0B000000 + number)
                raw.sendto(packet, (GATEWAY[4], 0))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class OneTime(Sequences):
    LIST = [
        ("7311/tcp", "15002/udp", "9040/tcp"),
        ("7411/tcp", "15102/udp", "9140/tcp"),
        ("7511/tcp", "15202/udp", "9240/tcp"),
        ("7611/tcp", "15302/udp", "9340/tcp"),
        ("7711/tcp", "15402/udp", "9440/tcp"),
    ]

    def lists(self) -> dict[str, str]:
        folder = self.gateway.dir / "sequences.d"
        folder.mkdir(mode=0o700)
        file = folder / "card.list"
        file.touch(0o600)
        file.write_text("# one on a line\n" + "".join(",".join(s).replace("/", ":") + "\n" for s in self.LIST))
        inline = [" ".join(stages) for stages in self.LIST]
        return {"file": sequence(one_time="card.list"), "inline": sequence(one_time=inline)}

    def test_each_works_once_also_after_a_crash(self) -> None:
        for text in self.lists().values():
            with self.subTest(text):
                if self.gateway.daemon:
                    self.gateway.kill9()
                shutil.rmtree(self.gateway.dir / "state")
                state = self.gateway.host.run(harness.BIN / "spa-server", "init", "--dir", self.gateway.dir / "n")
                self.assertEqual(state.returncode, 0)
                shutil.move(self.gateway.dir / "n" / "state", self.gateway.dir / "state")
                shutil.rmtree(self.gateway.dir / "n")
                self.gateway.configure(toml(text))
                self.gateway.start()
                self.once()

    def test_while_a_lost_record_is_waited_for_nothing_opens(self) -> None:
        """It takes the ten minutes of any lost record; what comes after them is a unit test's."""
        self.gateway.configure(toml(self.lists()["file"], sequence("plain", knocks=UDP)))
        shutil.rmtree(self.gateway.dir / "state")
        self.gateway.start()
        for stages in (UDP, self.LIST[0]):
            knock(self.friend, GATEWAY[4], *stages)
        eventually(lambda: self.gateway.refused("record") >= 2, 5, "refused while the record is waited for")
        self.assertEqual(self.gateway.grants(), [])

    def once(self) -> None:
        first, second, third = self.LIST[0], self.LIST[1], self.LIST[2]
        knock(self.friend, GATEWAY[4], *first)
        self.opens(FRIEND[4])
        self.gateway.kill9()
        self.gateway.start()
        self.close(FRIEND[4])
        knock(self.friend, GATEWAY[4], *first)
        knock(self.stranger, GATEWAY[4], *first)
        self.stays_shut()
        # The second was sent, but never arrived: the person goes on to the third.
        knock(self.friend, GATEWAY[4], *third)
        self.opens(FRIEND[4])
        self.close(FRIEND[4])
        for used in (first, second, third):
            knock(self.friend, GATEWAY[4], *used)
        self.stays_shut()
        knock(self.friend, GATEWAY[6], *self.LIST[4])
        self.opens(FRIEND[6])
        self.close(FRIEND[6])
        self.assertIn("opened by sequence (one-time)", self.gateway.log())


class Rolling(Sequences):
    TEXT = sequence(rolling=True, range="20000-29999", length=4, step="1h", transport="mixed")

    def setUp(self) -> None:
        super().setUp()
        self.gateway.configure(toml(self.TEXT))
        self.gateway.keys("sequence", "card", "--new")

    def card(self, count: int = 3) -> list[dict[str, object]]:
        return list(self.gateway.keys_json("sequence", "card", "--next", str(count))["sequences"])

    def test_a_card_agrees_with_the_formula(self) -> None:
        file = self.gateway.dir / "sequences.d" / "card.key"
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        key = harness.spa1.from_base64(file.read_text().strip())
        for line in self.card(5):
            begins = datetime.fromisoformat(str(line["begins"])).timestamp()
            self.assertEqual(line["knocks"], ports_of(key, b"card", int(begins) // 3600, range(20000, 30000), 4))
        text = self.gateway.keys("sequence", "card", "--next", "10").stdout
        self.assertEqual(len(re.findall(r"^\[ \] \d{4}-", text, re.MULTILINE)), 10)

    def test_a_key_is_made_once(self) -> None:
        before = (self.gateway.dir / "sequences.d" / "card.key").read_text()
        done = self.gateway.keys("sequence", "card", "--new", check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual((self.gateway.dir / "sequences.d" / "card.key").read_text(), before)
        self.assertEqual(self.gateway.keys("sequence", "other", "--new", check=False).returncode, 78)

    def test_a_line_of_the_card_opens_once_and_a_recorded_one_is_worth_nothing(self) -> None:
        self.serve()
        self.gateway.start()
        now, later, too_early = (line["knocks"] for line in self.card())
        knock(self.friend, GATEWAY[4], *now)
        self.opens(FRIEND[4])
        self.close(FRIEND[4])
        for host, to in ((self.friend, GATEWAY[4]), (self.stranger, GATEWAY[4]), (self.friend, GATEWAY[6])):
            knock(host, to, *now)
        knock(self.friend, GATEWAY[4], *too_early)
        self.stays_shut()
        self.gateway.kill9()
        self.gateway.start()
        knock(self.friend, GATEWAY[4], *now)
        self.stays_shut()
        knock(self.friend, GATEWAY[4], *later)
        self.opens(FRIEND[4])
        self.assertIn("opened by sequence (rolling)", self.gateway.log())

    @unittest.skipUnless(shutil.which("nc"), "not there: nc")
    def test_netcat_knocks_a_line_as_the_break_glass_card_says(self) -> None:
        self.gateway.configure(toml(self.TEXT.replace('"mixed"', '"udp"')))
        self.serve()
        self.gateway.start()
        (line,) = self.card(1)
        for port in [str(knock).removesuffix("/udp") for knock in line["knocks"]]:  # type: ignore[attr-defined]
            self.friend.run("sh", "-c", f"echo | nc -4 -u -w1 {GATEWAY[4]} {port}", check=False)
        self.opens(FRIEND[4])

    def test_the_client_does_it_by_itself(self) -> None:
        self.serve()
        self.gateway.start()
        folder = self.network.folder / "profiles" / "rolling"
        folder.mkdir(parents=True)
        file = folder / "gw.toml"
        file.write_text(self.gateway.keys("sequence", "card", "--profile").stdout)
        done = self.client("knock", "--rolling", "gw", check=False)
        self.assertEqual((done.returncode, done.stdout), (78, ""), "others may read it")
        file.chmod(0o600)
        for family in FAMILIES:
            # This step's, then the next one's: each works once.
            self.client("knock", "--rolling", "gw", f"-{family}")
            self.opens(FRIEND[family])
            self.close(FRIEND[family])
        done = self.client("knock", "--rolling", "gw", "-4")
        self.assertIn("sent again", done.stderr)
        self.stays_shut()

    def profile(self) -> None:
        folder = self.network.folder / "profiles" / "rolling"
        folder.mkdir(parents=True)
        file = folder / "gw.toml"
        file.write_text(self.gateway.keys("sequence", "card", "--profile").stdout)
        file.chmod(0o600)

    def test_a_step_opens_for_the_family_that_a_connection_takes_first(self) -> None:
        self.serve()
        self.gateway.start()
        self.profile()
        answer = json.loads(self.client("knock", "--rolling", "gw", "--json").stdout)
        self.assertEqual({entry["address"] for entry in answer["sent"]}, {GATEWAY[6]})
        self.assertIn("-4", str(answer["hints"]))
        self.opens(FRIEND[6])
        self.client("knock", "--rolling", "gw", "-4")
        self.opens(FRIEND[4])

    def test_what_was_lost_can_be_sent_again(self) -> None:
        self.serve()
        self.profile()
        for _ in range(2):
            self.client("knock", "--rolling", "gw", "-4")
        self.gateway.start()
        self.assertIn("sent again", self.client("knock", "--rolling", "gw", "-4").stderr)
        self.opens(FRIEND[4])

    def test_a_backup_has_the_key(self) -> None:
        backup = self.network.folder / "gateway.backup"
        self.gateway.keys("backup", str(backup))
        elsewhere = self.network.folder / "elsewhere"
        harness.run(harness.BIN / "spa-server", "restore", "--dir", elsewhere, backup)
        key = Path("sequences.d", "card.key")
        self.assertEqual((elsewhere / key).read_text(), (self.gateway.dir / key).read_text())
        self.assertEqual((elsewhere / key).stat().st_mode & 0o777, 0o600)

    def test_without_its_key_the_others_open(self) -> None:
        (self.gateway.dir / "sequences.d" / "card.key").unlink()
        self.gateway.configure(toml(self.TEXT, sequence("plain", knocks=TCP)))
        done = self.gateway.control("check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn("spa-keys sequence card --new", done.stderr)
        self.gateway.start()
        knock(self.friend, GATEWAY[4], *TCP)
        self.opens(FRIEND[4])


def ports_of(key: bytes, name: bytes, step: int, pool: range, length: int) -> list[str]:
    """The formula of docs/sequences.md, written a second time; protocols are mixed."""
    found: dict[int, str] = {}
    for block in itertools.count():
        text = b"spa/1 rolling sequence" + bytes([len(name)]) + name + struct.pack("!QI", step, block)
        for a, b, _, last in struct.iter_unpack("4B", hmac.digest(key, text, hashlib.sha256)):
            draw = a << 8 | b
            if len(found) == length:
                return [f"{port}/{protocol}" for port, protocol in found.items()]
            if draw < 65536 // len(pool) * len(pool):
                found.setdefault(pool[draw % len(pool)], "tcp" if last & 1 else "udp")
    raise AssertionError("never")


class Knockd(Sequences):
    """Our client and a real knockd."""

    def knockd(self, text: str) -> Process:
        harness.require("knockd")
        file = self.network.folder / "knockd.conf"
        file.write_text(text)
        process = Process(self.network.gateway.argv("knockd", "-i", "friend0", "-D", "-v", "-c", file))
        self.addCleanup(process.end)
        eventually(lambda: process.out or process.err or process.process.poll() is not None, 5)
        return process

    def test_our_client_opens_the_door_of_knockd(self) -> None:
        folder = self.network.folder / "opened"
        folder.mkdir()
        kinds = {"tcp": TCP, "udp": UDP, "mixed": MIXED}
        door = "[{name}]\n sequence = {ports}\n seq_timeout = 10\n tcpflags = syn\n"
        door += " start_command = /usr/bin/touch {folder}/{name}-%IP%\n start_command_6 = /usr/bin/touch {folder}/{name}-%IP%\n"
        ports = {name: ",".join(stages).replace("/", ":") for name, stages in kinds.items()}
        doors = (door.format(name=name, ports=ports[name], folder=folder) for name in kinds)
        knockd = self.knockd("[options]\n\n" + "\n".join(doors))
        for (name, stages), family in itertools.product(kinds.items(), FAMILIES):
            with self.subTest(name=name, family=family):
                opened = folder / f"{name}-{FRIEND[family]}"

                def knocked(stages: tuple[str, ...] = stages, family: int = family, opened: Path = opened) -> bool:
                    self.client("knock", GATEWAY[family], *stages, "-d", "50")
                    time.sleep(0.1)  # knockd answers nothing that could be waited for
                    return opened.exists()

                eventually(knocked, 10, f"{opened}: {knockd.out} {knockd.err}")


class Import(Sequences):
    """A knockd.conf that served knockd serves us."""

    def conf(self) -> tuple[Path, Path]:
        opened = self.network.folder / "opened"
        opened.mkdir()
        file = self.network.folder / "knockd.conf"
        file.write_text(
            "[options]\n LogFile = /var/log/knockd.log\n[openSSH]\n sequence = 7311,15002,9040\n seq_timeout = 10\n"
            " start_command = /sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n cmd_timeout = 20\n"
            " stop_command = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n tcpflags = syn\n"
            f"[touch]\n sequence = 7312:udp,15003:udp,9041:udp\n start_command = /usr/bin/touch {opened}/%IP%\n"
        )
        return file, opened

    def imported(self, *arguments: str | Path) -> harness.Done:
        return harness.run(harness.BIN / "spa-server", "import", *arguments, check=False)

    def test_what_was_imported_opens(self) -> None:
        file, opened = self.conf()
        opened.chmod(0o777)
        self.network.folder.chmod(0o755)
        done = self.imported(file)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("line 2: LogFile", done.stderr)
        text = done.stdout.replace("protect = false", "protect = true").replace('"iptables"', f'"{harness.BACKEND}"')
        head = server_toml(Service("db", ["tcp/5432"]))
        self.gateway.configure(head + text)
        self.assertEqual(self.gateway.control("check").returncode, 0)
        self.serve()
        self.gateway.start()
        for family in FAMILIES:
            knock(self.friend, GATEWAY[family], *TCP)
            self.opens(FRIEND[family])
            self.assert_opens(self.friend, GATEWAY[family])
            knock(self.friend, GATEWAY[family], *UDP)
            eventually(lambda family=family: (opened / FRIEND[family]).exists(), 5, "the command ran")

    def test_it_never_overwrites_and_unknown_directives_are_errors(self) -> None:
        file, _ = self.conf()
        output = self.network.folder / "sequences.toml"
        self.assertEqual(self.imported(file, "--output", output).returncode, 0)
        self.assertEqual(output.stat().st_mode & 0o777, 0o600)
        before = output.read_text()
        done = self.imported(file, "--output", output)
        self.assertEqual((done.returncode, done.stdout, output.read_text()), (1, "", before))
        file.write_text(file.read_text().replace("seq_timeout", "seq_timout"))
        done = self.imported(file)
        self.assertEqual((done.returncode, done.stdout), (78, ""))
        self.assertIn("line 5: knockd has no directive seq_timout", done.stderr)
        self.assertEqual(self.imported("/nonexistent").returncode, 78)
