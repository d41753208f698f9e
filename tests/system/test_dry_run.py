"""`run --dry-run`: it judges real knocks, says what it would do, and does none of it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import unittest
from pathlib import Path

import harness
import kinds
from harness import BIN, FRIEND, GATEWAY, Outside, Process, SystemTest, eventually
from test_neighbours import FOREIGN, Mixed


def setUpModule() -> None:
    harness.require("nft", "ssh", "tcpd")
    if why := kinds.missing():
        raise unittest.SkipTest(why)


class DryRun(SystemTest):
    with_sshd = False

    def picture(self, *folders: Path) -> list[str]:
        """Every rule, set and file, octet for octet; a file with its mode and the time of its last change."""
        script = "iptables-save; ip6tables-save; ipset save; nft -s list ruleset"
        rules = self.gateway.host.run("sh", "-ec", script).stdout
        lines = [re.sub(r"\[\d+:\d+\]", "", line) for line in rules.splitlines() if not line.startswith("#")]
        for path in sorted(path for folder in folders for path in folder.rglob("*")):
            facts = path.lstat()
            held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            lines.append(f"{path} {facts.st_mode:o} {facts.st_uid} {facts.st_mtime_ns if held else ''} {held}")
        return lines

    def said(self, process: Process, *words: str) -> None:
        """One line of its log holds all of these."""
        eventually(lambda: any(all(word in line for word in words) for line in process.err), 5, f"a line with {words}")

    def knock_at(self, process: Process) -> None:
        """Real knocks of every kind, and what is said of each."""
        alice, nobody = self.alice, Outside(harness.fresh_keys(self.gateway))
        alice.open(self.friend, GATEWAY[4], "ssh", "web", "vpn", duration=60)
        for service in ("ssh", "web", "vpn"):
            self.said(process, "would open", "alice", FRIEND[4], f'service="{service}"')
        alice.open(self.friend, GATEWAY[6], duration=60)
        self.said(process, "would open", "alice", FRIEND[6])
        alice.close(self.friend, GATEWAY[4], "web")
        self.said(process, "would close", "alice", 'service="web"')
        alice.open(self.friend, GATEWAY[4], "nothing")
        self.said(process, "refused", "policy", "alice")
        nobody.open(self.friend, GATEWAY[4])
        self.said(process, "refused", "who")
        alice.open(self.friend, GATEWAY[4], offset=-7200.0)
        self.said(process, "refused", "time", "alice")
        self.friend.send(harness.enroll_datagram(self.invite, harness.fresh_keys(self.gateway)), GATEWAY[4])
        self.said(process, "would enroll", "bob")
        for line in process.err:
            self.assertNotRegex(line, r": (?:opened|closed|enrolled|ended)\b", "what it did not do")

    def prepare(self) -> None:
        """A host with other people's things, and a gateway with all four backends."""
        self.kind = Mixed(self.network)
        self.kind.sh(FOREIGN)
        self.gateway = self.kind.make_gateway()
        self.addCleanup(self.gateway.remove)
        self.addCleanup(self.show_log, self.gateway)
        self.alice = Outside.add(self.gateway, "alice", ["ssh", "web", "vpn"])
        self.invite = self.gateway.invite("bob")

    def test_alone_it_changes_nothing(self) -> None:
        self.prepare()
        folders = (self.gateway.dir, self.kind.etc)
        before = self.picture(*folders)
        self.gateway.start("--dry-run")
        log = self.gateway.running()
        self.said(log, "would hide", 'service="ssh"', "tcp/22", "iptables, tcp-wrappers")
        self.said(log, "would hide", 'service="web"', "tcp/8080", "nftables")
        self.knock_at(log)
        self.assertTrue(self.gateway.status()["dry_run"])
        self.assertEqual(len(self.gateway.grants()), 3, "what would be open")
        self.assertEqual(self.gateway.stop(), 0)
        own = str(self.gateway.dir / "run")
        changed = set(self.picture(*folders)) ^ set(before)
        elsewhere = [line for line in changed if not line.startswith(f"{own} ")]
        self.assertEqual(elsewhere, [], "but for the folder of its socket")
        self.assertEqual(os.listdir(own), [])

    def test_beside_the_daemon_it_takes_nothing_from_it(self) -> None:
        self.prepare()
        self.gateway.start()
        argv = [BIN / "spa-server", "run", "--dir", self.gateway.dir, "--dry-run"]
        beside = Process(self.gateway.host.argv(*argv, bind=self.gateway.bind))
        self.addCleanup(beside.end)
        eventually(lambda: beside.out == ["ready"], 10, "ready beside the daemon")
        self.knock_at(beside)
        eventually(lambda: len(self.gateway.grants()) == 3, 5, "the daemon opened what the other said")
        held = self.picture(self.kind.etc)
        beside.process.send_signal(signal.SIGTERM)
        self.assertEqual(beside.wait(), 0)
        self.assertFalse(self.gateway.status()["dry_run"], "the control socket is the daemon's")
        self.assertEqual(without_time(self.picture(self.kind.etc)), without_time(held), "its end shuts nothing")
        self.assertEqual(len(self.gateway.grants()), 3)


def without_time(lines: list[str]) -> list[str]:
    return [re.sub(r"(timeout|expires) \S+", "", line) for line in lines]


if __name__ == "__main__":
    unittest.main()
