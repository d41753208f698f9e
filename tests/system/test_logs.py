"""The log: text, JSON lines and the journal, each as a reader meets it, and what fail2ban makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import unittest
from pathlib import Path
from typing import Any

import harness
from harness import FAMILIES, FRIEND, GATEWAY, STRANGER, Outside, Process, SystemTest, eventually, run, server_toml

JOURNALD = Path("/lib/systemd/systemd-journald")
FAIL2BAN = harness.ROOT / "packaging" / "fail2ban"
DECOY = 2323


def setUpModule() -> None:
    harness.require()


class Logs(SystemTest):
    with_sshd = False

    def begin(self, *tables: str) -> None:
        self.gateway.configure(server_toml() + "\n".join(tables) + "\n")
        self.alice = Outside.add(self.gateway, "alice")
        self.gateway.start()

    def knock_all(self) -> None:
        """A door of each family, a client refused, strangers refused."""
        for family in FAMILIES:
            self.alice.open(self.friend, GATEWAY[family], duration=100)
        self.alice.open(self.friend, GATEWAY[4], "db")
        self.alice.open(self.friend, GATEWAY[4], offset=-4000)
        self.stranger.send(os.urandom(204), GATEWAY[4])
        self.stranger.send(b"short", GATEWAY[6])
        self.barrier()
        eventually(lambda: self.gateway.status()["accepted"]["open"] == 2)
        eventually(lambda: self.gateway.refused("tag") and self.gateway.refused("shape"))


class Text(Logs):
    def test_each_refusal_names_source_and_reason_and_each_door_who_may_pass(self) -> None:
        self.begin()
        self.knock_all()
        refused = [line for line in self.gateway.log().splitlines() if "refused: " in line]
        reasons = {reason for line in refused for reason in re.findall(r'reason="(\w+)"', line)}
        self.assertEqual(reasons, {"policy", "time", "tag", "shape", "who"})
        for line in refused:
            self.assertRegex(line, r' source="[0-9a-f.:]+" reason="\w+" step=\d')
        opened = [line for line in self.gateway.log().splitlines() if ": opened " in line]
        self.assertEqual(len(opened), 2)
        for line, family in zip(opened, FAMILIES, strict=True):
            who = rf'client="alice" key="SHA256:[\w-]+" source={FRIEND[family]} address={FRIEND[family]}'
            self.assertRegex(line, rf'{who} service="ssh" opened=\S+ until="\S+Z"')
            self.assertNotIn("\x1b", line)

    def test_how_much_is_told_follows_a_reload(self) -> None:
        self.begin('[log]\nlevel = "error"')
        self.knock_all()
        self.assertEqual(self.gateway.log(), "")
        self.gateway.configure(server_toml())
        self.gateway.reload()
        eventually(lambda: "the new configuration is in force" in self.gateway.log())
        self.alice.open(self.friend, GATEWAY[4])
        eventually(lambda: "opened client=" in self.gateway.log())


class Json(Logs):
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.gateway.log().splitlines()]

    def test_every_line_is_one_object_with_its_fields(self) -> None:
        self.begin('[log]\nformat = "json"')
        self.knock_all()
        opened = [line for line in self.lines() if line["message"] == "opened"]
        self.assertEqual([line["address"] for line in opened], [FRIEND[family] for family in FAMILIES])
        for line in opened:
            self.assertEqual((line["level"], line["client"], line["service"]), ("INFO", "alice", "ssh"))
        refused = {line["reason"]: line for line in self.lines() if line["message"].startswith("refused: ")}
        self.assertEqual(set(refused), {"policy", "time", "tag", "shape", "who"})
        self.assertEqual(refused["time"]["difference_s"], -4000)
        self.assertEqual((refused["tag"]["source"], refused["shape"]["source"]), (STRANGER[4], STRANGER[6]))

    def test_a_reload_changes_the_format(self) -> None:
        self.begin()
        self.gateway.configure(server_toml() + '[log]\nformat = "json"\n')
        self.gateway.reload()
        eventually(lambda: self.gateway.log().splitlines()[-1].startswith("{"))


class Journal(Logs):
    """A real journald, which sees the daemon and nothing else: it has folders of its own for its sockets."""

    def setUp(self) -> None:
        super().setUp()
        if not JOURNALD.exists() or not shutil.which("journalctl"):
            self.skipTest(f"{JOURNALD} or journalctl is not there")
        folders = {"/run/systemd": self.network.folder / "run-systemd", "/run/log": self.network.folder / "run-log"}
        if missing := [place for place in folders if not Path(place).is_dir()]:
            self.skipTest(f"nothing to lay a folder over: {missing}")
        (folders["/run/systemd"] / "journal").mkdir(parents=True)
        (folders["/run/log"] / "journal").mkdir(parents=True)
        self.gateway.bind = folders
        self.folder = folders["/run/log"] / "journal"
        self.socket = folders["/run/systemd"] / "journal" / "socket"

    def run_journald(self) -> Process:
        # Beside the namespaces of the test: `ip netns exec` takes away /sys/fs/cgroup, which it asks.
        mounts = [f'mount --bind "{folder}" {place}' for place, folder in self.gateway.bind.items()]
        script = " && ".join([*mounts, f"exec {JOURNALD}"])
        journald = Process(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
        self.addCleanup(journald.end)
        eventually(self.socket.exists, 10, "journald listens")
        return journald

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        done = run("journalctl", "-D", self.folder, "-o", "json", "SYSLOG_IDENTIFIER=spa-server", *matches, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_fields(self) -> None:
        self.run_journald()
        self.begin('[log]\nformat = "journal"')
        self.knock_all()
        eventually(lambda: len(self.entries("MESSAGE=opened")) == 2, 10, "two doors in the journal")
        opened = self.entries("MESSAGE=opened")
        for entry, family in zip(opened, FAMILIES, strict=True):
            told = [entry[key] for key in ("CLIENT", "SOURCE", "ADDRESS", "SERVICE", "PRIORITY")]
            self.assertEqual(told, ["alice", FRIEND[family], FRIEND[family], "ssh", "6"])
            self.assertEqual(entry["_PID"], str(self.gateway.status()["pid"]))
        (refused,) = self.entries("REASON=time")
        self.assertEqual((refused["CLIENT"], refused["SOURCE"], refused["PRIORITY"]), ("alice", FRIEND[4], "4"))
        (tag,) = self.entries("REASON=tag")
        self.assertEqual((tag["SOURCE"], tag["PRIORITY"]), (STRANGER[4], "6"))
        self.assertEqual(self.gateway.log(), "", "nothing on stderr beside it")

    def test_journald_may_be_started_anew(self) -> None:
        first = self.run_journald()
        self.begin('[log]\nformat = "journal"')
        first.end()
        self.socket.unlink(missing_ok=True)
        self.alice.open(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.grants())
        self.run_journald()
        self.alice.open(self.friend, GATEWAY[6])
        eventually(lambda: self.entries("MESSAGE=opened", f"ADDRESS={FRIEND[6]}"), 10, "told to the new journald")

    def test_without_a_journal_it_is_told_as_text(self) -> None:
        self.begin('[log]\nformat = "journal"')
        self.knock_all()
        self.assertIn("the log cannot be told as journal, it stays as it was", self.gateway.log())
        self.assertIn("opened client=", self.gateway.log())
        self.assertIn("no-journal", self.gateway.control("check").stdout)


@unittest.skipUnless(shutil.which("fail2ban-regex"), "fail2ban-regex is not there (Debian package fail2ban)")
class Fail2ban(Logs):
    def matches(self, text: str, mode: str) -> list[str]:
        """The sources that the filter finds in a log."""
        log = self.network.folder / "spa-server.log"
        log.write_text(text + "\n")
        filter_file = f"{FAIL2BAN / 'filter.d' / 'spa-server.conf'}[mode={mode}]"
        done = run("fail2ban-regex", "-o", "ip", log, filter_file, check=False)
        self.assertNotIn("ERROR", done.stdout + done.stderr)
        return done.stdout.split()

    def test_only_completed_handshakes_are_found_and_never_a_refusal(self) -> None:
        self.begin('[scan-guard]\nmode = "ban"', f'decoys = ["tcp/{DECOY}"]', "report-at = 3")
        self.knock_all()
        for _ in range(4):
            self.stranger.reach(GATEWAY[6], DECOY)
        # Without an answer that anybody heeds: their source could be anybody's.
        for port in range(101, 120):
            self.friend.reach(GATEWAY[4], port, source=harness.FRIEND_TOO[4], seconds=0.05)
        text = eventually(lambda: (log := self.gateway.log()).count("shut out: it scans") >= 2 and log, 10, "two bans")
        own = STRANGER[6]
        self.assertEqual(set(self.matches(text, "handshake")), {own})
        self.assertEqual(set(self.matches(text, "guard")), {own, harness.FRIEND_TOO[4]})
        # Where nobody who is spared lives in it, the source is the whole /64.
        self.assertEqual(set(self.matches(text.replace(f"{own}/128", "2001:db8::/64"), "handshake")), {"2001:db8::/64"})
        journal = "\n".join(f"Nov 22 22:00:00 host spa-server[77]: {line}" for line in text.splitlines())
        self.assertEqual(set(self.matches(journal, "handshake")), {own})
        refused = "\n".join(line for line in text.splitlines() if "refused: " in line)
        self.assertGreater(refused.count("\n"), 2)
        self.assertEqual(self.matches(refused, "guard"), [])

    def test_the_jail_is_one_that_fail2ban_reads(self) -> None:
        folder = self.network.folder / "fail2ban"
        shutil.copytree("/etc/fail2ban", folder)
        for part in ("filter.d", "jail.d"):
            for file in (FAIL2BAN / part).iterdir():
                text = file.read_text().replace("enabled = false", "enabled = true")
                text = text.replace("backend = systemd", "backend = auto\nlogpath = /dev/null")
                (folder / part / file.name).write_text(text)
        shutil.rmtree(folder / "jail.d" / "defaults-debian.conf", ignore_errors=True)
        (folder / "jail.d" / "defaults-debian.conf").unlink(missing_ok=True)
        done = run("fail2ban-client", "-c", folder, "--dp", check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("'spa-server'", done.stdout)
