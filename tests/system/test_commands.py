"""Commands as scripts see them: shapes of --json, exit codes, modes, and what must never be printed."""

from __future__ import annotations

import json
import os
import re
import unittest
from pathlib import Path
from typing import Any

import harness
import spa1
from harness import FRIEND, GATEWAY, HOST_NAME, KNOCK_PORT, Done, Outside, Service, SystemTest, eventually, server_toml

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
KEY = re.compile(r"[A-Za-z0-9_-]{43}")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9_-]{43}")
FAILED, USAGE, UNREACHABLE, PERMISSION, CONFIG = 1, 64, 69, 77, 78
CLIENT_KEYS = {
    *("name", "label", "state", "public_key", "services", "expires", "enrolled", "last_knock", "last_address"),
    "identity",
}


def setUpModule() -> None:
    harness.require()


class Commands(SystemTest):
    with_sshd = False

    def init(self, folder: Path, *options: str) -> Done:
        argv = [str(harness.BIN / "spa-server"), "init", "--dir", str(folder), *options]
        return self.gateway.host.run("env", "-u", "SSH_CONNECTION", "-u", "SSH_CLIENT", *argv, check=False)

    def assert_keys(self, value: dict[str, Any], keys: str | set[str]) -> None:
        self.assertEqual(set(value), set(keys.split()) if isinstance(keys, str) else keys)

    def assert_fails(self, done: Done, code: int | tuple[int, ...], says: str = "") -> None:
        """The code, nothing on stdout, and on stderr what is wrong; clap's 2 is as good as 64."""
        codes = {code} if isinstance(code, int) else set(code)
        if USAGE in codes:
            codes.add(2)
        self.assertIn(done.returncode, codes, done.stderr)
        self.assertEqual(done.stdout, "", "stdout stays empty on errors")
        self.assertRegex(done.stderr, f"(?i){says}" if says else r"\S")

    def assert_time(self, value: object) -> None:
        self.assertRegex(str(value), TIME)
        self.assertEqual(len(str(value)), 20)


class Shapes(Commands):
    """One object, its keys always all there."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = Outside.add(self.gateway, "alice", ["ssh", "db"])
        self.gateway.start()

    def test_status(self) -> None:
        status = self.gateway.status()
        self.assert_keys(
            status,
            "version pid started dry_run gateway config interfaces backends record clock clients grants accepted"
            " refused dropped forwarded",
        )
        self.assertEqual(status["pid"], self.gateway.running().pid)
        self.assert_time(status["started"])
        self.assertIs(status["dry_run"], False)
        for fingerprint in status["gateway"]:
            self.assertRegex(fingerprint, FINGERPRINT)
        self.assert_keys(status["config"], "loaded state note")
        self.assertEqual(status["config"]["state"], "current")
        self.assert_time(status["config"]["loaded"])
        for interface in status["interfaces"]:
            self.assert_keys(interface, "name state")
        for backend in status["backends"]:
            self.assert_keys(backend, "name state note")
        self.assert_keys(status["record"], "state ready_in_s")
        self.assert_keys(status["clock"], "synchronised warning")
        self.assertEqual(status["clients"], {"active": 1, "expired": 0, "revoked": 0, "broken": 0})
        self.assertEqual(status["accepted"], {"open": 0, "close": 0, "enroll": 0})
        self.assertEqual(status["refused"], dict.fromkeys(harness.REASONS, 0))
        self.assert_keys(status["dropped"], "kernel queue twice")
        self.assertEqual((status["grants"], status["forwarded"]), (0, 0))

    def test_status_counts(self) -> None:
        self.alice.open(self.friend, GATEWAY[4], "ssh", "db")
        eventually(lambda: self.gateway.status()["grants"] == 2)
        self.alice.close(self.friend, GATEWAY[4], "db")
        eventually(lambda: self.gateway.status()["grants"] == 1)
        self.assertEqual(self.gateway.status()["accepted"], {"open": 1, "close": 1, "enroll": 0})

    def test_grants(self) -> None:
        self.assertEqual(self.gateway.control_json("grants"), {"grants": []})
        self.alice.open(self.friend, GATEWAY[4], duration=120)
        eventually(self.gateway.grants)
        (grant,) = self.gateway.grants()
        self.assert_keys(grant, "client service address opened via since until remaining_s backends")
        expected = ("alice", "ssh", FRIEND[4], f"{FRIEND[4]}/32", "knock", [harness.BACKEND])
        names = ("client", "service", "address", "opened", "via", "backends")
        self.assertEqual(tuple(grant[name] for name in names), expected)
        self.assert_time(grant["since"])
        self.assert_time(grant["until"])
        self.assertTrue(100 < grant["remaining_s"] <= 120)

    def test_explain(self) -> None:
        self.assertEqual(self.gateway.control_json("explain"), {"refused": []})
        for _ in range(3):
            Outside(harness.fresh_keys(self.gateway)).open(self.friend, GATEWAY[4])
        self.alice.open(self.friend, GATEWAY[4], "nothing")
        eventually(lambda: self.gateway.refused("policy"))
        entries = self.gateway.explained()
        for entry in entries:
            self.assert_keys(entry, "at step reason client source source_port difference_s detail count")
            self.assert_time(entry["at"])
        newest = entries[0]
        self.assertEqual((newest["step"], newest["reason"], newest["client"]), (8, "policy", "alice"))
        self.assertEqual(newest["source"], FRIEND[4])
        self.assertEqual(sum(entry["count"] for entry in entries if entry["reason"] == "who"), 3)
        self.assertEqual(len(self.gateway.explained(1)), 1)

    def test_check(self) -> None:
        answer = self.gateway.control_json("check")
        self.assert_keys(answer, "ok findings access hidden")
        self.assertIs(answer["ok"], True)
        self.assertEqual(answer["access"], [{"client": "alice", "services": ["ssh", "db"]}])
        hidden = sorted(answer["hidden"], key=lambda entry: str(entry["service"]))
        self.assertEqual(hidden, [{"service": "db", "ports": ["tcp/5432"]}, {"service": "ssh", "ports": ["tcp/22"]}])

    def test_invite_and_list(self) -> None:
        invite = self.gateway.keys_json("invite", "bob", "--services", "ssh,db", "--valid", "1h")
        self.assert_keys(invite, "invite name services ends pin")
        self.assertEqual((invite["name"], invite["services"], invite["pin"]), ("bob", ["ssh", "db"], None))
        self.assert_time(invite["ends"])
        parsed = spa1.parse_invite(invite["invite"])
        self.assertEqual((parsed.name, parsed.host, parsed.ports, parsed.flags), ("bob", HOST_NAME, [KNOCK_PORT], 0))
        self.assertEqual(parsed.services, ["ssh=tcp/22", "db=tcp/5432"])
        self.assertEqual((parsed.gateway_public, parsed.gateway_hmac_key), (self.gateway.public, self.gateway.hmac_key))
        listed = self.gateway.keys_json("list")
        self.assert_keys(listed, "clients invites")
        (entry,) = listed["invites"]
        expected = {"name": "bob", "state": "live", "services": ["ssh", "db"], "ends": invite["ends"]}
        self.assertEqual(entry, expected)
        (client,) = listed["clients"]
        self.assert_keys(client, CLIENT_KEYS)

    def test_show(self) -> None:
        client = self.gateway.keys_json("show", "alice")
        self.assert_keys(client, CLIENT_KEYS)
        self.assertEqual((client["name"], client["state"], client["services"]), ("alice", "active", ["ssh", "db"]))
        self.assertEqual(client["public_key"], spa1.to_base64(self.alice.keys.public))
        self.assertEqual((client["last_knock"], client["last_address"], client["expires"]), (None, None, None))
        self.alice.open(self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.keys_json("show", "alice")["last_knock"], what="last knock")
        client = self.gateway.keys_json("show", "alice")
        self.assert_time(client["last_knock"])
        self.assertEqual(client["last_address"], FRIEND[4])
        self.gateway.stop()
        stopped = self.gateway.keys_json("show", "alice")
        self.assertEqual(stopped["last_knock"], client["last_knock"], "the same without a daemon")

    def test_gateway_show(self) -> None:
        shown = self.gateway.keys_json("gateway", "show")
        self.assert_keys(shown, "host ports identities")
        self.assertEqual((shown["host"], shown["ports"]), (HOST_NAME, [KNOCK_PORT]))
        (identity,) = shown["identities"]
        self.assert_keys(identity, "public_key fingerprint created hmac_key")
        self.assertIsNone(identity["hmac_key"], "null unless --secrets")
        self.assertRegex(identity["public_key"], KEY)
        self.assertEqual(identity["fingerprint"], self.gateway.status()["gateway"][0])
        self.assert_time(identity["created"])

    def test_states_of_clients(self) -> None:
        Outside.add(self.gateway, "past", expires="2020-01-01T00:00:00Z")
        (self.gateway.dir / "clients.d" / "torn.toml").write_text("public-key = ")
        os.chmod(self.gateway.dir / "clients.d" / "torn.toml", 0o600)
        self.gateway.keys("revoke", "alice")
        states = {client["name"]: client["state"] for client in self.gateway.keys_json("list")["clients"]}
        self.assertEqual(states, {"alice": "revoked", "past": "expired", "torn": "broken"})
        expected = {"active": 0, "expired": 1, "revoked": 1, "broken": 1}
        eventually(lambda: self.gateway.status()["clients"] == expected, 2, "within a second")

    def test_client_commands(self) -> None:
        self.client("enroll", self.gateway.invite("bob"))
        eventually(lambda: self.enrolled("bob"))
        answer = harness.as_object(self.client("open", HOST_NAME, "ssh", "--once", "--json").stdout)
        self.assert_keys(answer, "sent services hints")
        for entry in answer["sent"]:
            self.assert_keys(entry, "address port bytes")
        self.assertEqual(answer["services"], [{"name": "ssh", "state": "sent"}])
        self.assertIn(HOST_NAME, self.client("profiles").stdout)
        for command in ("profiles", "show"):
            arguments = [command, *([HOST_NAME] if command == "show" else []), "--json"]
            harness.as_object(self.client(*arguments).stdout)


class ExitCodes(Commands):
    def test_69_without_a_daemon(self) -> None:
        for command in ("status", "grants", "explain"):
            self.assert_fails(self.gateway.control(command, check=False), UNREACHABLE, "spa-server run|start")
            self.assert_fails(self.gateway.control(command, "--json", check=False), UNREACHABLE)
        self.assert_fails(self.gateway.control("close", "alice", check=False), UNREACHABLE)

    def test_64_for_wrong_usage(self) -> None:
        self.assert_fails(self.gateway.control("nonsense", check=False), USAGE)
        self.assert_fails(self.gateway.control("status", "--nonsense", check=False), USAGE)
        self.assert_fails(self.gateway.keys("invite", "bob", "--services", "", check=False), USAGE)
        self.assert_fails(self.gateway.keys("invite", check=False), USAGE)
        self.assert_fails(self.client("enroll", "spa1-invite:AAAA", check=False), USAGE)
        text = self.gateway.invite("bob")
        damaged = text[:40] + ("A" if text[40] != "A" else "B") + text[41:]
        for wrong in (damaged, text[:-4], text + "A", "x" + text):
            self.assert_fails(self.client("enroll", wrong, check=False), USAGE)
        self.client("enroll", text)
        self.assert_fails(self.client("open", HOST_NAME, check=False), USAGE)

    def test_64_to_wait_without_a_port_to_connect(self) -> None:
        invite = spa1.Invite(
            self.gateway.public, self.gateway.hmac_key, os.urandom(32), 2**32, 0, [KNOCK_PORT], HOST_NAME, "x", ["ssh"]
        )
        self.client("enroll", invite.to_text())
        self.assert_fails(self.client("open", HOST_NAME, "ssh", "--wait", check=False), USAGE, "connect")

    def test_78_for_configuration(self) -> None:
        for text in ("[gateway\n", server_toml() + "[nonsense]\n", server_toml(Service(duration="soon"))):
            self.gateway.configure(text)
            for command in ("run", "protect"):
                self.assert_fails(self.gateway.control(command, check=False), CONFIG, r"server\.toml")
        (self.gateway.dir / "server.toml").unlink()
        for command in ("check", "run", "protect"):
            self.assertEqual(self.gateway.control(command, check=False).returncode, CONFIG, command)

    def test_78_for_services_that_do_not_exist(self) -> None:
        Outside.add(self.gateway, "alice")
        for arguments in (("invite", "bob", "--services", "nope"), ("set", "alice", "--services", "ssh,nope")):
            self.assert_fails(self.gateway.keys(*arguments, check=False), CONFIG, "nope")

    def test_78_without_a_way_back(self) -> None:
        self.gateway.configure(server_toml(always_allow=[]))
        self.assert_fails(self.gateway.control("run", check=False), CONFIG, "always-allow")
        stderr = self.gateway.control("run", check=False).stderr
        self.assertIn("allow-no-way-back", stderr, "both lines to choose from are said")
        answer = self.gateway.control("check", "--json", check=False)
        self.assertEqual(answer.returncode, CONFIG)
        self.assertIs(harness.as_object(answer.stdout)["ok"], False)

    def test_1_for_what_is_not_there(self) -> None:
        for arguments in (("show", "nobody"), ("revoke", "nobody"), ("remove", "nobody")):
            self.assert_fails(self.gateway.keys(*arguments, check=False), FAILED, "nobody")
        self.assertNotEqual(self.client("open", "noprofile", "ssh", check=False).returncode, 0)

    def test_77_without_permission(self) -> None:
        os.chmod(self.network.folder, 0o755)
        binary = self.network.folder / "spa-server"  # where nobody may read it, whatever the folder of the build is
        binary.write_bytes((harness.BIN / "spa-server").read_bytes())
        binary.chmod(0o755)
        setpriv = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
        done = self.gateway.host.run(*setpriv, binary, "run", "--dir", self.gateway.dir, check=False)
        self.assert_fails(done, (PERMISSION, CONFIG))
        self.gateway.start()
        done = self.gateway.host.run(*setpriv, binary, "status", "--dir", self.gateway.dir, check=False)
        self.assert_fails(done, PERMISSION)


class Files(Commands):
    def mode(self, path: str) -> int:
        return os.stat(self.gateway.dir / path).st_mode & 0o777

    def test_modes(self) -> None:
        Outside.add(self.gateway, "alice")
        self.gateway.invite("bob")
        self.gateway.start()
        fresh = self.network.folder / "fresh"
        self.assertEqual(self.init(fresh, "--no-way-back").returncode, 0)
        self.assertEqual((fresh / "server.toml").stat().st_mode & 0o777, 0o640)
        self.assertEqual(self.mode("gateway.key"), 0o600)
        self.assertEqual(self.mode("state"), 0o700)
        self.assertEqual(self.mode("run"), 0o755)
        for path in (self.gateway.dir / "invites.d").iterdir():
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        self.assertTrue((self.gateway.dir / "run" / "control.sock").is_socket())

    def test_an_enrolled_clients_file(self) -> None:
        self.gateway.start()
        keys = harness.fresh_keys(self.gateway)
        self.friend.send(harness.enroll_datagram(self.gateway.invite("bob"), keys, "Bob's phone"), GATEWAY[4])
        eventually(lambda: self.enrolled("bob"))
        self.assertEqual(self.mode("clients.d/bob.toml"), 0o600)
        shown = self.gateway.keys_json("show", "bob")
        self.assertEqual((shown["label"], shown["public_key"]), ("Bob's phone", spa1.to_base64(keys.public)))
        self.assert_time(shown["enrolled"])

    def test_a_secret_that_others_can_read_is_declined(self) -> None:
        path = self.gateway.dir / "gateway.key"
        path.chmod(0o644)
        for command in ("run", "check"):
            done = self.gateway.control(command, check=False)
            self.assertEqual(done.returncode, CONFIG, command)
            self.assertIn(f"chmod 600 {path}", done.stderr + done.stdout)
        self.assert_fails(self.gateway.keys("gateway", "show", check=False), CONFIG, "chmod 600")
        self.assertEqual(self.mode("gateway.key"), 0o644, "it is said, not done")
        path.chmod(0o600)
        os.chown(path, 65534, 65534)
        self.assertEqual(self.gateway.control("run", check=False).returncode, CONFIG, "another owner")

    def test_a_client_file_that_others_can_read_is_broken_alone(self) -> None:
        Outside.add(self.gateway, "alice")
        bob = Outside.add(self.gateway, "bob")
        (self.gateway.dir / "clients.d" / "alice.toml").chmod(0o644)
        self.gateway.start()
        self.assertEqual(self.gateway.status()["clients"]["broken"], 1)
        bob.open(self.friend, GATEWAY[4])
        eventually(self.gateway.entries)

    def test_init_twice_writes_nothing(self) -> None:
        folder = self.network.folder / "twice"
        self.assertEqual(self.init(folder, "--no-way-back").returncode, 0)
        before = self.picture(folder)
        self.assert_fails(self.init(folder, "--no-way-back"), FAILED)
        self.assertEqual(self.picture(folder), before)

    def test_init_beside_any_file_writes_nothing(self) -> None:
        folder = self.network.folder / "half"
        folder.mkdir()
        (folder / "server.toml").write_text("# mine\n")
        before = self.picture(folder)
        self.assert_fails(self.init(folder, "--no-way-back"), FAILED, r"server\.toml")
        self.assertEqual(self.picture(folder), before)

    def picture(self, folder: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def test_what_init_writes_passes_check(self) -> None:
        folder = self.network.folder / "fresh"
        options = ("--host", "gw.example.net", "--port", "7007", "--service", "web=tcp/8080")
        self.assertEqual(self.init(folder, *options, "--always-allow", "192.0.2.0/28").returncode, 0)
        argv = (harness.BIN / "spa-server", "check", "--dir", folder, "--json")
        answer = harness.as_object(self.gateway.host.run(*argv).stdout)
        self.assertIs(answer["ok"], True)
        self.assertEqual(answer["hidden"], [{"service": "web", "ports": ["tcp/8080"]}])
        shown = self.gateway.host.run(harness.BIN / "spa-keys", "gateway", "show", "--json", "--dir", folder).stdout
        self.assertEqual((json.loads(shown)["host"], json.loads(shown)["ports"]), ("gw.example.net", [7007]))

    def test_init_takes_the_peer_of_the_ssh_connection(self) -> None:
        folder = self.network.folder / "fresh"
        argv = [str(harness.BIN / "spa-server"), "init", "--dir", str(folder)]
        self.gateway.host.run("env", "SSH_CONNECTION=198.51.100.9 4711 192.0.2.1 22", *argv)
        self.assertIn("198.51.100.9", (folder / "server.toml").read_text())


class Check(Commands):
    def findings(self, toml: str) -> list[dict[str, Any]]:
        self.gateway.configure(toml)
        answer = self.gateway.control("check", "--json", check=False)
        self.assertEqual(answer.returncode, CONFIG, answer.stderr)
        parsed = harness.as_object(answer.stdout)
        self.assertIs(parsed["ok"], False)
        for finding in parsed["findings"]:
            self.assert_keys(finding, "level file line column code text try")
            self.assertIn(finding["level"], ("error", "warning"))
        return list(parsed["findings"])

    def test_all_findings_at_once_each_with_its_line(self) -> None:
        toml = server_toml(
            Service("ssh", ["tcp/70000"]), Service("db", duration="soon"), Service("ssh", ["tcp/23"]), ports=[0]
        )
        errors = [finding for finding in self.findings(toml) if finding["level"] == "error"]
        lines = toml.splitlines()
        cited = {lines[finding["line"] - 1].split(" = ")[0] for finding in errors if finding["line"]}
        self.assertTrue({"ports", "duration"} <= cited, errors)
        self.assertGreaterEqual(len(errors), 4, errors)
        for finding in errors:
            self.assertTrue(finding["file"].endswith("server.toml"), finding)

    def test_what_must_be_errors(self) -> None:
        good = server_toml()
        cases = {
            "unknown key": good.replace("[listen]", "[listen]\nportz = [1]"),
            "everybody always allowed": good.replace("10.77.1.9/32", "0.0.0.0/0"),
            "unknown backend": good.replace(f'"{harness.BACKEND}"', '"magic"', 1),
            "name of a service": good.replace('name = "db"', 'name = "No Good"'),
            "no unit": good.replace('duration = "30s"', "duration = 30", 1),
            "over the cap": good.replace('duration = "30s"', 'duration = "9h"', 1),
            "port 0": good.replace("tcp/22", "tcp/0"),
            "range upside down": good.replace("tcp/22", "tcp/23-22"),
            "knock port twice": good.replace(f"[{KNOCK_PORT}]", f"[{KNOCK_PORT}, {KNOCK_PORT}]"),
        }
        for name, toml in cases.items():
            with self.subTest(name):
                self.assertNotEqual(toml, good)
                self.assertTrue(any(finding["level"] == "error" for finding in self.findings(toml)))

    def test_text_for_people_has_a_caret(self) -> None:
        self.gateway.configure(server_toml(Service(duration="soon")))
        done = self.gateway.control("check", check=False)
        self.assertEqual(done.returncode, CONFIG)
        self.assertIn("^", done.stderr + done.stdout)
        self.assertIn("soon", done.stderr + done.stdout)

    def test_it_changes_nothing(self) -> None:
        self.gateway.control("check")
        self.assertNotIn("SPA", self.gateway.rules())
        self.assertFalse((self.gateway.dir / "run" / "control.sock").exists())


class Secrets(Commands):
    def test_secrets_are_in_no_output_and_no_log(self) -> None:
        alice = Outside.add(self.gateway, "alice")
        self.gateway.start()
        text = self.gateway.invite("bob")
        invited, device = spa1.parse_invite(text), harness.fresh_keys(self.gateway)
        self.friend.send(harness.enroll_datagram(text, device), GATEWAY[4])
        eventually(lambda: self.enrolled("bob"))
        alice.open(self.friend, GATEWAY[4])
        eventually(self.gateway.entries)
        alice.open(self.friend, GATEWAY[4], "nothing")
        self.barrier()
        (self.gateway.dir / "clients.d" / "alice.toml").write_text(f'psk = "{spa1.to_base64(alice.keys.psk)}"\nx = = 1')
        eventually(lambda: self.gateway.status()["clients"]["broken"] == 1, 2)
        said = [
            self.gateway.control(command, *json_or_not, check=False)
            for command in ("status", "grants", "explain", "check")
            for json_or_not in ((), ("--json",))
        ]
        said += [
            self.gateway.keys(*arguments, *json_or_not, check=False)
            for arguments in (("list",), ("show", "bob"), ("show", "alice"), ("gateway", "show"))
            for json_or_not in ((), ("--json",))
        ]
        everything = "\n".join([self.gateway.log(), *(done.stdout + done.stderr for done in said)])
        secrets = {
            "K": self.gateway.hmac_key,
            "alice's PSK": alice.keys.psk,
            "bob's PSK": device.psk,
            "the invite's seed": invited.seed,
            "the invite's key": invited.keys.private,
            "the invite's PSK": invited.keys.psk,
        }
        for name, secret in secrets.items():
            for form in (spa1.to_base64(secret), secret.hex()):
                self.assertNotIn(form, everything, name)
        self.assertNotIn(text, everything)

    def test_the_clients_secrets(self) -> None:
        self.gateway.start()
        self.client("enroll", self.gateway.invite("bob"))
        profile = (self.network.folder / "profiles" / f"{HOST_NAME}.toml").read_text()
        secrets = re.findall(r'(?:gateway-hmac-key|private-key|psk) = "([^"]+)"', profile)
        self.assertEqual(len(secrets), 3, "a profile as DESIGN gives it")
        said = [
            self.client(*arguments, check=False)
            for arguments in (
                ("profiles",),
                ("show", HOST_NAME),
                ("show", HOST_NAME, "--json"),
                ("open", HOST_NAME, "ssh", "--json"),
            )
        ]
        for secret in secrets:
            self.assertNotIn(secret, "".join(done.stdout + done.stderr for done in said))


class Keys(Commands):
    def test_add_with_a_key_made_elsewhere(self) -> None:
        self.gateway.start()
        bob = Outside(harness.fresh_keys(self.gateway))
        public, psk = spa1.to_base64(bob.keys.public), spa1.to_base64(bob.keys.psk)
        self.gateway.keys("add", "bob", "--public-key", public, "--psk-file", "-", "--services", "ssh", stdin=psk)
        eventually(lambda: self.gateway.status()["clients"]["active"] == 1, 2, "effective within a second")
        bob.open(self.friend, GATEWAY[4])
        eventually(self.gateway.entries)
        again = self.gateway.keys(
            "add", "carol", "--public-key", public, "--psk-file", "-", "--services", "ssh", stdin=psk, check=False
        )
        self.assertEqual(again.returncode, FAILED, "a key belongs to one client")

    def test_remove(self) -> None:
        Outside.add(self.gateway, "alice")
        self.gateway.start()
        self.gateway.keys("remove", "alice")
        self.assertFalse((self.gateway.dir / "clients.d" / "alice.toml").exists())
        eventually(lambda: self.gateway.status()["clients"]["active"] == 0, 2)

    def test_set_expires(self) -> None:
        Outside.add(self.gateway, "alice")
        self.gateway.keys("set", "alice", "--expires", "2020-12-31")
        self.assertEqual(self.gateway.keys_json("show", "alice")["state"], "expired")
        self.gateway.keys("set", "alice", "--expires", "2199-12-31T00:00:00Z")
        shown = self.gateway.keys_json("show", "alice")
        self.assertEqual((shown["state"], shown["expires"]), ("active", "2199-12-31T00:00:00Z"))

    def test_names_are_never_paths(self) -> None:
        for name in ("../evil", "a/b", ".hidden", "Upper", "", "x" * 64):
            done = self.gateway.keys("invite", name, "--services", "ssh", check=False)
            self.assertNotEqual(done.returncode, 0, name)
            self.assertEqual(done.stdout, "")

    def test_a_file_may_be_dropped_in_and_taken_away(self) -> None:
        self.gateway.start()
        alice = Outside.add(self.gateway, "alice")
        alice.open(self.friend, GATEWAY[4])
        eventually(self.gateway.entries)
        (self.gateway.dir / "clients.d" / "alice.toml").unlink()
        eventually(lambda: not self.gateway.entries(), 2, "the door of a client that is gone is shut")


if __name__ == "__main__":
    unittest.main()
