"""The playbook of docs/examples/ansible, run for real on a gateway whose system folders are the test's own."""

from __future__ import annotations

import json
import re
import shutil
import unittest
from pathlib import Path

import harness
import spa1
from harness import GATEWAY, HOST_NAME, ROOT, Done, eventually, run
from world import World

EXAMPLE = ROOT / "docs" / "examples" / "ansible"


def setUpModule() -> None:
    harness.require("ssh", "ssh-keygen")
    if not shutil.which("ansible-playbook"):
        raise unittest.SkipTest("not there: ansible-playbook")


class Playbook(unittest.TestCase):
    # What this host has no use for: systemd is not pid 1, and the programs are there already.
    skipped = "systemd,programs"

    def setUp(self) -> None:
        self.world = World(self, installed="programs" in self.skipped)
        self.folder = self.world.work / "ansible"
        shutil.copytree(EXAMPLE, self.folder)
        (self.folder / "inventory.ini").write_text(f"[gateways]\n{HOST_NAME} ansible_connection=local\n")
        self.anna = spa1.ClientKeys(b"", b"", *(bytes([byte] * 32) for byte in (1, 2)))
        self.vars = {
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_become": False,
            "spa_always_allow": ["192.0.2.0/28"],
            "spa_clients": ["anna"],
            "spa_psks": {"anna": spa1.to_base64(self.anna.psk)},
            "spa_programs": str(self.world.work / "target" / "release"),
        }
        text = f'public-key = "{spa1.to_base64(self.anna.public)}"\nservices = ["ssh"]\n'
        (self.folder / "clients" / "anna.toml").write_text(text)

    def play(self, *options: str) -> dict[str, int]:
        """Runs it; the counts of its last line."""
        (self.folder / "vars.json").write_text(json.dumps(self.vars))
        command = f"ansible-playbook -i inventory.ini -e @vars.json --skip-tags {self.skipped} {' '.join(options)} site.yml"
        done = self.typed(f"cd {self.folder} && ANSIBLE_NOCOLOR=1 {command}")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", done.stdout.splitlines()[-2])}
        self.assertIn("ok", counts or {}, done.stdout)
        self.said = done.stdout + done.stderr
        return counts

    def typed(self, command: str) -> Done:
        return run(*self.world.argv(self.world.network.gateway, command), check=False, timeout=180)

    def facts(self, command: str) -> dict[str, object]:
        return harness.as_object(self.world.do(f"{command} --json"))

    def knock(self) -> None:
        (identity,) = self.facts("spa-keys gateway show --secrets")["identities"]  # type: ignore[misc]
        public, hmac_key = (spa1.from_base64(identity[name]) for name in ("public_key", "hmac_key"))
        keys = spa1.ClientKeys(public, hmac_key, self.anna.private, self.anna.psk)
        harness.Outside(keys).open(self.world.network.friend, GATEWAY[4])


class New(Playbook):
    skipped = "systemd"

    def test_it_makes_a_gateway_and_a_second_run_changes_nothing(self) -> None:
        first = self.play()
        self.assertGreater(first["changed"], 3)
        self.assertNotIn(spa1.to_base64(self.anna.psk), self.said, "no secret on the terminal")
        self.world.start()
        self.assertEqual(self.play()["changed"], 0)
        self.assertEqual(self.play("--check")["changed"], 0, "the same, told beforehand")
        friend = self.world.network.friend
        self.assertEqual(friend.reach(GATEWAY[4]), "filtered")
        self.knock()
        eventually(lambda: friend.is_open(GATEWAY[4]), 5, "anna gets in")


class Later(Playbook):
    def test_a_change_is_tried_and_kept_and_a_bad_one_changes_nothing(self) -> None:
        self.play()
        self.world.start()
        self.vars["spa_services"] = [{"name": "ssh", "ports": ["tcp/22"]}, {"name": "web", "ports": ["tcp/443"]}]
        self.play()
        config = self.facts("spa-server status")["config"]
        self.assertEqual(config["state"], "current", config)  # type: ignore[index]
        hidden = self.facts("spa-server check")["hidden"]
        self.assertIn("web", str(hidden))
        file = Path(self.world.etc / "spa" / "server.toml")
        before = file.read_text()
        self.vars["spa_services"] = [{"name": "ssh", "ports": ["tcp/70000"]}]
        with self.assertRaises(AssertionError) as failed:
            self.play()
        self.assertIn("names a port above 65535", str(failed.exception))
        self.assertEqual(file.read_text(), before)

    def test_who_has_left_is_revoked(self) -> None:
        self.play()
        self.world.start()
        self.vars["spa_revoked"] = ["anna"]
        self.play("--check")
        self.assertEqual(self.facts("spa-keys show anna")["state"], "active", "only told")
        self.assertEqual(self.play()["changed"], 1)
        self.assertEqual(self.facts("spa-keys show anna")["state"], "revoked")
        self.assertEqual(self.play()["changed"], 0)


class Syntax(unittest.TestCase):
    def test_ansible_reads_it_as_it_is_shipped(self) -> None:
        done = run("ansible-playbook", "-i", "inventory.ini", "--syntax-check", "site.yml", check=False, cwd=EXAMPLE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
