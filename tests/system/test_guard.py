"""The scan guard: nmap is noticed whatever it does, shut out where that is asked for, and nobody else is."""

from __future__ import annotations

import json
import re
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness
import test_wrappers
from harness import (
    ADMIN,
    BACKEND,
    FAMILIES,
    FRIEND,
    FRIEND_TOO,
    GATEWAY,
    STRANGER,
    Host,
    Outside,
    SystemTest,
    eventually,
    never,
    run,
    server_toml,
)

# Raw scans and what they send; each comes from an address of its own.
SCANS = {"-sS": "SYN", "-sF": "FIN", "-sN": "NULL", "-sX": "XMAS", "-sU": "UDP"}
EXTRA = range(11, 18)
CLOSED = 99  # nobody listens there
DECOY = 2323


def setUpModule() -> None:
    harness.require("nmap")


def nmap(host: Host, family: int, *options: str, source: str | None = None, ports: str = "101-112") -> None:
    """One scan of the gateway; `source` need not be the host's own address."""
    spoofed = ["-S", source, "-e", "eth0"] if source else []
    version = ["-6"] if family == 6 else []
    fixed = ["-n", "-Pn", "--max-retries", "0", "--host-timeout", "20s", "-p", ports]
    host.run("nmap", *version, *fixed, *spoofed, *options, GATEWAY[family], timeout=40)


def expand(ports: list[str]) -> set[str]:
    """`tcp/1-3` is `tcp/1`, `tcp/2`, `tcp/3`."""
    all_ports: set[str] = set()
    for protocol, _, span in (port.partition("/") for port in ports):
        first, _, last = span.partition("-")
        all_ports |= {f"{protocol}/{number}" for number in range(int(first), int(last or first) + 1)}
    return all_ports


class Guarded(SystemTest):
    with_sshd = False

    def begin(self, *lines: str) -> None:
        section = "\n".join(["[scan-guard]", *lines]) + "\n"
        self.gateway.configure(server_toml() + section)
        self.gateway.start()

    def scans(self) -> dict[str, dict[str, object]]:
        """What status knows of each source, the last scan of it."""
        noticed = self.gateway.status()["scans"]["noticed"]
        return {scan["source"]: scan for scan in reversed(noticed)}

    def banned(self) -> set[str]:
        return {str(ban["network"]) for ban in self.gateway.control_json("bans")["bans"]}

    def in_kernel(self) -> set[str]:
        return set(self.gateway.entries("ban"))

    def is_shut_out(self, family: int, source: str | None = None, host: Host | None = None) -> bool:
        return (host or self.stranger).reach(GATEWAY[family], CLOSED, source) == "filtered"

    def scan_until_banned(self, *families: int) -> None:
        for family in families:
            nmap(self.stranger, family, "-sS", "-T4")
        expected = {f"{STRANGER[family]}/{32 if family == 4 else 128}" for family in families}
        eventually(lambda: expected <= self.banned(), 5, "banned")


class Report(Guarded):
    def test_every_scan_of_nmap_is_told_with_its_source_and_ports(self) -> None:
        self.begin()
        self.assertEqual(self.gateway.status()["scans"]["mode"], "report")
        for number in EXTRA:
            self.stranger.run("ip", "addr", "add", f"10.77.2.{number}/24", "dev", "eth0")
            self.stranger.run("ip", "addr", "add", f"fd77:2::{number}/64", "dev", "eth0", "nodad", "preferred_lft", "0")
        expected: dict[str, tuple[str, str]] = {}
        runs = []
        for family in FAMILIES:
            prefix = "10.77.2." if family == 4 else "fd77:2::"
            for number, (option, probe) in zip(EXTRA, SCANS.items(), strict=False):
                source = f"{prefix}{number}"
                expected[source] = (probe, "udp" if option == "-sU" else "tcp")
                runs.append((self.stranger, family, option, "-T4", source))
            slow = f"{prefix}{EXTRA[-2]}"
            expected[slow] = ("SYN", "tcp")
            runs.append((self.stranger, family, "-sS", "-T2", slow))
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(nmap, *words[:-1], source=words[-1]) for words in runs]
            done += [pool.submit(nmap, self.stranger, family, "-sT", "-T4") for family in FAMILIES]
            for one in done:
                one.result()
        expected |= {STRANGER[family]: ("SYN", "tcp") for family in FAMILIES}
        eventually(lambda: expected.keys() <= self.scans().keys(), 5, f"all of {sorted(expected)} noticed")
        for source, (probe, protocol) in expected.items():
            ports = {f"{protocol}/{port}" for port in range(101, 113)}
            eventually(lambda source=source, ports=ports: self.ports_of(source) == ports, 3, f"ports of {source}")
            self.assertEqual(self.scans()[source]["probes"], [probe], source)
            self.assertRegex(self.gateway.log(), rf"a scan.* source={re.escape(source)}/(32|128) ports=\S*{protocol}/1")
        self.assertEqual(self.scans().keys() - expected.keys(), set(), "nobody else")
        self.assertEqual(self.gateway.control("bans").stdout, "nobody is shut out\n")
        self.assertFalse(self.is_shut_out(4), "reported only")
        self.assertEqual(self.in_kernel(), set())
        shown = self.gateway.control("status").stdout
        self.assertRegex(shown, r"(?m)^scans +report, 0 shut out$")

    def ports_of(self, source: str) -> set[str]:
        return expand(list(self.scans()[source]["ports"]))  # type: ignore[call-overload]

    def test_what_honest_people_do_is_no_scan(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        self.begin(f'decoys = ["tcp/{DECOY}"]')
        listener = "import socket,time\nfor p in range(7001,7010): s=socket.create_server(('',p)); globals()[f's{p}']=s\nprint('up',flush=True);time.sleep(60)"
        server = harness.Process(self.gateway.host.argv("/usr/bin/python3", "-c", listener))
        self.addCleanup(server.end)
        eventually(lambda: server.out == ["up"], 5)
        for port in range(7001, 7010):
            self.assertTrue(self.friend.is_open(GATEWAY[4], port))
        for port in (40000, 40001, 40002, 50000, 50001, 50002, 60000):
            self.friend.send(b"an answer, it may be", GATEWAY[4], port)
        for port in (22, 5432, 62201):
            self.friend.send(b"a port that we know", GATEWAY[4], port)
        alice.open(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.grants(), 5)
        nmap(self.stranger, 4, "-sS", "-T4", ports="101-106")
        eventually(lambda: STRANGER[4] in self.scans(), 5)
        self.assertEqual(self.scans().keys(), {STRANGER[4]})


class Ban(Guarded):
    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice")

    def test_the_scanner_is_shut_out_and_those_in_whose_name_he_scans_are_not(self) -> None:
        self.begin('mode = "ban"')
        for family in FAMILIES:
            self.alice.open(self.friend, GATEWAY[family], duration=300)
            self.assertFalse(self.is_shut_out(family))
        eventually(lambda: len(self.gateway.grants()) == 2, 5)
        self.scan_until_banned(*FAMILIES)
        for family in FAMILIES:
            self.assertTrue(self.is_shut_out(family), f"IPv{family}")
            # In the name of these, and in his own.
            nmap(self.stranger, family, "-sS", "-T4", "-D", f"{ADMIN[family]},{FRIEND[family]},ME")
        for family in FAMILIES:
            for address, why in ((ADMIN, "it is always allowed"), (FRIEND, "it holds a grant")):
                line = rf"not shut out: {why}.* source={re.escape(address[family])}/"
                eventually(lambda line=line: re.search(line, self.gateway.log()), 5, line)
                self.assertEqual(self.friend.reach(GATEWAY[family], CLOSED, address[family]), "closed")
            self.assertFalse(self.is_shut_out(family, FRIEND_TOO[family], self.friend))
        self.assertEqual(self.banned(), {f"{STRANGER[4]}/32", f"{STRANGER[6]}/128"})
        self.assertEqual({entry.split("/")[0] for entry in self.in_kernel()}, set(STRANGER.values()))
        self.assertRegex(self.gateway.log(), r"shut out: it scans source=10\.77\.2\.2/32 ports=\S*tcp/1.* until=\S+Z")

    def test_a_whole_ipv6_network_is_one_source(self) -> None:
        self.begin('mode = "ban"')
        self.gateway.host.run("ip", "route", "add", "fd99::/32", "via", STRANGER[6])
        for number in range(1, 14):
            self.stranger.run("ip", "addr", "add", f"fd99::{number}/128", "dev", "lo")
        for number in range(1, 13):
            self.assertEqual(self.stranger.reach(GATEWAY[6], 100 + number, f"fd99::{number}", 0.2)[:3], "clo")
        eventually(lambda: "fd99::/64" in self.banned(), 5)
        self.assertTrue(self.is_shut_out(6, "fd99::13"))
        self.assertFalse(self.is_shut_out(6))

    def test_one_port_of_spoofed_packets_bans_nobody_and_handshakes_do(self) -> None:
        self.begin('mode = "ban"', f'decoys = ["tcp/{DECOY}"]')
        self.assertEqual(self.gateway.status()["scans"]["decoys"], [f"tcp/{DECOY}"])
        packets = b"".join(syn_packet("10.77.2.77", GATEWAY[4], 1024 + number, DECOY) for number in range(100))
        for at in range(0, len(packets), 40):
            harness.send_packet(self.stranger, GATEWAY[4], packets[at : at + 40])
        self.assertEqual(self.stranger.reach(GATEWAY[4], DECOY), "open")
        never(lambda: self.banned(), 0.5, "one handshake, or any number of SYNs to one port")
        for _ in range(3):
            self.stranger.reach(GATEWAY[4], DECOY)
        eventually(lambda: self.banned() == {f"{STRANGER[4]}/32"}, 5)
        self.assertEqual(self.stranger.reach(GATEWAY[4], DECOY), "filtered")

    def test_who_is_banned_can_knock_and_is_let_in_by_it(self) -> None:
        self.begin('mode = "ban"')
        self.scan_until_banned(*FAMILIES)
        for family in FAMILIES:
            self.assertTrue(self.is_shut_out(family))
            self.alice.open(self.stranger, GATEWAY[family], duration=60)
            eventually(lambda family=family: not self.is_shut_out(family), 5, "let in")
        eventually(lambda: not self.banned() and not self.in_kernel(), 5)
        log = self.gateway.log()
        self.assertRegex(log, r"let in again: a valid knock came from there source=10\.77\.2\.2/32")
        self.assertLess(log.index("a valid knock came"), log.index("opened client="))

    def test_only_so_many_a_minute(self) -> None:
        self.begin('mode = "ban"', "bans-a-minute = 1")
        self.scan_until_banned(4)
        nmap(self.friend, 4, "-sS", "-T4")
        line = r"not shut out: 1 bans have begun within a minute \(bans-a-minute\) source=10\.77\.1\.2/32"
        eventually(lambda: re.search(line, self.gateway.log()), 5)
        self.assertEqual(self.banned(), {f"{STRANGER[4]}/32"})

    def test_bans_are_listed_lifted_by_hand_and_end(self) -> None:
        self.begin('mode = "ban"', 'ban-for = "6s"')
        self.scan_until_banned(4, 6)
        (ban,) = [ban for ban in self.gateway.control_json("bans")["bans"] if ":" not in ban["network"]]
        self.assertEqual(set(ban), {"network", "until", "remaining_s", "ports", "backends"})
        self.assertTrue(0 < ban["remaining_s"] <= 6 and ban["backends"] == [BACKEND] and ban["ports"])
        self.assertEqual(self.gateway.control("unban", STRANGER[4]).stdout, "1 ban lifted\n")
        self.assertFalse(self.is_shut_out(4))
        self.assertEqual(self.gateway.control("unban", STRANGER[4]).stdout, "nobody there was shut out\n")
        self.assertEqual(self.gateway.control("unban", check=False).returncode, 2)
        eventually(lambda: not self.banned() and not self.in_kernel(), 12, "its end has come")
        self.assertFalse(self.is_shut_out(6))

    def test_what_others_take_away_is_put_back_and_a_restart_changes_nothing(self) -> None:
        self.begin('mode = "ban"')
        self.scan_until_banned(4)
        before = self.in_kernel()
        self.gateway.flush_set("spa4-ban")
        eventually(lambda: self.in_kernel() == before, 5, "put back")
        self.gateway.put_entry("spa4-ban", FRIEND[4], 600)
        eventually(lambda: self.in_kernel() == before, 5, "taken out")
        if BACKEND == "iptables":
            self.gateway.host.run("iptables", "-F", "SPA")
            eventually(lambda: "-A SPA ! -i lo" in self.gateway.rules(), 5, "the rule")
        self.gateway.kill9()
        self.assertTrue(self.is_shut_out(4), "the kernel does it")
        self.gateway.start()
        self.assertEqual(self.banned(), {f"{STRANGER[4]}/32"})
        left = next(iter(self.gateway.entries("ban").values()))
        self.assertTrue(3000 < left < 3600, f"{left} s")
        self.gateway.configure(server_toml() + "[scan-guard]\n")
        self.gateway.reload()
        eventually(lambda: not self.is_shut_out(4), 5, "report shuts nobody out")
        self.assertNotIn("-ban", self.gateway.rules())

    def test_uninstall_leaves_nothing(self) -> None:
        self.begin('mode = "ban"')
        self.scan_until_banned(4)
        self.assertEqual(self.gateway.stop(), 0)
        self.gateway.control("uninstall")
        self.assertFalse(self.is_shut_out(4))
        left = "".join(
            self.gateway.host.run("sh", "-c", command, check=False).stdout
            for command in ("ipset list -n", "iptables-save", "ip6tables-save", "nft list ruleset")
        )
        self.assertNotIn("spa4-", left)
        self.assertNotIn("SPA", left)

    def test_published_ports_are_shut_too(self) -> None:
        if BACKEND != "iptables":
            self.skipTest("the nftables backend judges packets to this host only")
        self.gateway.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for chain in ("PREROUTING",):
            words = ("-t", "nat", "-A", chain, "-d", GATEWAY[4], "-p", "tcp", "--dport", "8080")
            self.gateway.host.run("iptables", *words, "-j", "DNAT", "--to-destination", f"{FRIEND[4]}:80")
        self.begin('mode = "ban"')
        self.assertEqual(self.stranger.reach(GATEWAY[4], 8080), "closed", "friend refuses")
        nmap(self.stranger, 4, "-sS", "-T4", ports="8080,101-112")
        eventually(lambda: f"{STRANGER[4]}/32" in self.banned(), 5)
        self.assertEqual(self.stranger.reach(GATEWAY[4], 8080), "filtered")
        self.assertEqual(self.stranger.reach(FRIEND[4], 80), "closed", "what is only routed is left alone")
        self.assertNotIn("tcp/8080", expand(list(self.scans()[STRANGER[4]]["ports"])))  # type: ignore[call-overload]


def syn_packet(source: str, to: str, source_port: int, port: int) -> bytes:
    """A SYN alone, in an IPv4 packet of 40 octets."""
    ends = harness.socket.inet_aton(source) + harness.socket.inet_aton(to)
    pack = harness.struct.pack
    header = pack("!HHIIBBHHH", source_port, port, source_port, 0, 0x50, 2, 64240, 0, 0)
    sum_ = harness.checksum(ends + pack("!HH", 6, len(header)) + header)
    return pack("!BBHHHBBH", 0x45, 0, 40, source_port, 0, 64, 6, 0) + ends + header[:16] + pack("!H", sum_) + header[18:]


class Wrapped(test_wrappers.Wrapped):
    """A block in hosts.deny, for hosts whose services TCP Wrappers guards."""

    def test_sshd_and_tcpd_refuse_the_scanner_until_the_end(self) -> None:
        deny = self.etc / "hosts.deny"
        before = b"# theirs\r\nALL: ALL EXCEPT 10.77.1.2 [fd77:1::2]/128\n"
        deny.write_bytes(before)
        deny.chmod(0o640)
        server = self.gateway.dir / "server.toml"
        server.write_text(server.read_text() + '[scan-guard]\nmode = "ban"\nban-for = "8s"\n')
        self.start()
        self.assertTrue(self.enters(4), "hosts.deny lets friend in")
        nmap(self.friend, 4, "-sS", "-T4")
        pattern = self.pattern.with_name("ALL")
        eventually(lambda: pattern.read_text() == f"{FRIEND[4]}\n", 5, "the line is there")
        self.assertFalse(self.enters(4), "sshd refuses him")
        self.assertFalse(self.matches(FRIEND[4]), "tcpd agrees")
        self.assertTrue(self.enters(6), "and nobody else")
        text = deny.read_bytes()
        self.assertTrue(text.endswith(before) and text.startswith(b"# BEGIN spa-server"))
        self.assertEqual(deny.stat().st_mode & 0o777, 0o640)
        left = json.loads(self.command("bans", "--json").stdout)["bans"][0]["remaining_s"]
        self.gateway.kill9()
        self.start()
        again = json.loads(self.command("bans", "--json").stdout)["bans"][0]["remaining_s"]
        self.assertLessEqual(again, left, "a restart makes it no longer")
        eventually(lambda: pattern.read_text() == "", 15, "its end")
        self.assertTrue(self.enters(4))
        self.assertEqual(self.gateway.stop(), 0)
        self.command("uninstall")
        self.assertEqual(deny.read_bytes(), before)
        self.assertEqual(deny.stat().st_mode & 0o777, 0o640)
        self.assertFalse(pattern.exists())


del test_wrappers  # its tests are its own

if __name__ == "__main__":
    unittest.main()
