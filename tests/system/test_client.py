"""The device's side as people use it: ssh, scp, sftp, rsync and git through the door, on real networks."""

from __future__ import annotations

import os
import shlex
import shutil
import unittest
from pathlib import Path

import harness
from harness import (
    BIN,
    FAMILIES,
    FRIEND,
    GATEWAY,
    HOST_NAME,
    Done,
    SystemTest,
    as_object,
    eventually,
    run,
)

CLIENT = str(BIN / "spa-client")


def setUpModule() -> None:
    harness.require("ssh", "scp", "sftp", "ssh-keygen")


class Device(SystemTest):
    """The daemon runs, and a device is enrolled."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway.start()
        self.home = self.network.folder / "profiles"
        self.ssh_config = self.network.folder / "ssh_config"

    def enroll(self, name: str = "alice", services: str = "ssh", *options: str) -> None:
        self.client("enroll", self.gateway.invite(name, services), *options)
        eventually(lambda: self.enrolled(name), what=f"{name} enrolled")

    def profile(self, name: str = HOST_NAME) -> Path:
        return self.home / f"{name}.toml"

    def change_profile(self, old: str, new: str, name: str = HOST_NAME) -> None:
        text = self.profile(name).read_text()
        self.assertIn(old, text)
        self.profile(name).write_text(text.replace(old, new, 1))

    def environment(self) -> list[str]:
        return ["env", f"SPA_CONFIG_DIR={self.home}", f"HOME={self.network.folder}"]

    def configure_ssh(self, block: str) -> None:
        options = self.sshd.command("x", "-n")[3:-1]
        settings = [options[at + 1] for at, word in enumerate(options) if word == "-o"]
        lines = [f"    {setting.replace('=', ' ', 1)}" for setting in settings]
        lines += [f"    IdentityFile {self.sshd.folder}/user", "    User root"]
        self.ssh_config.write_text(f"{block}\nHost *\n" + "\n".join(lines) + "\n")

    def through(self, *argv: str | Path, check: bool = True, **options: object) -> Done:
        return self.friend.run(*self.environment(), *argv, check=check, **options)

    def use_hosts(self, *lines: str) -> None:
        """What the gateway's name means from now on."""
        hosts = self.network.folder / "hosts"
        hosts.write_text("\n".join(["127.0.0.1 localhost", "::1 localhost", *lines]) + "\n")


class Through(Device):
    """The connection itself."""

    def ssh(self, *arguments: str, before: tuple[str, ...] = (), check: bool = True) -> Done:
        options = self.sshd.command("x", "-n")[1:-1]
        return self.through(CLIENT, "ssh", *before, HOST_NAME, *options, *arguments, check=check)

    def test_ssh_to_the_gateway_itself(self) -> None:
        self.enroll()
        self.assert_nothing_open()
        self.assertEqual(self.ssh("-l", "root", "--", "echo", "inside").stdout, "inside\n")
        self.assertEqual({grant["client"] for grant in self.gateway.grants()}, {"alice"})

    def test_ssh_with_a_host_of_its_own(self) -> None:
        self.enroll()
        self.assertEqual(self.ssh(f"root@{GATEWAY[6]}", "echo inside").stdout, "inside\n")

    def test_the_exit_code_is_ssh_s(self) -> None:
        self.enroll()
        self.assertEqual(self.ssh("-l", "root", "--", "exit 7", check=False).returncode, 7)

    def test_ssh_says_why_when_nothing_opens(self) -> None:
        self.enroll()
        self.gateway.keys("revoke", "alice")
        eventually(lambda: not self.enrolled("alice"))
        done = self.ssh("-l", "root", before=("--timeout", "1s"), check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("error: ssh did not open within 1s", done.stderr)
        self.assertIn("likely cause: the key: alice may be revoked", done.stderr)

    def test_a_family_that_is_dead(self) -> None:
        """The name has both; nothing listens or routes behind one of them."""
        self.enroll()
        dead = {4: "10.77.1.77", 6: "fd77:1::77"}
        for family in FAMILIES:
            with self.subTest(dead=family):
                other = 10 - family
                self.use_hosts(f"{dead[family]} {HOST_NAME}", f"{GATEWAY[other]} {HOST_NAME}")
                self.assertEqual(self.ssh("-l", "root", "--", "echo", "inside").stdout, "inside\n")
                self.configure_ssh(self.through(CLIENT, "ssh-config", HOST_NAME).stdout)
                got = self.through("ssh", "-F", self.ssh_config, HOST_NAME, "echo inside").stdout
                self.assertEqual(got, "inside\n")

    def each_way(self) -> None:
        """Runs the tools over each family alone, handing over and copying."""
        for family in FAMILIES:
            self.use_hosts(f"{GATEWAY[family]} {HOST_NAME}")
            for block in self.blocks():
                with self.subTest(family=family, block=block):
                    self.configure_ssh(block)
                    self.tools(f"{family}{len(block)}")
                    self.client("close", HOST_NAME, "ssh", "--once")

    def blocks(self) -> list[str]:
        handing = self.through(CLIENT, "ssh-config", HOST_NAME).stdout
        copying = handing.replace(" --fdpass", "").replace("    ProxyUseFdpass yes\n", "")
        self.assertNotEqual(handing, copying)
        return [handing, copying, self.through(CLIENT, "ssh-config", HOST_NAME, "--match").stdout]

    def tools(self, word: str) -> None:
        work, there = self.network.folder / f"here-{word}", self.network.folder / f"there-{word}"
        work.mkdir()
        there.mkdir()
        (work / "large").write_bytes(os.urandom(8 << 20))
        self.through("scp", "-F", self.ssh_config, work / "large", f"{HOST_NAME}:{there}/scp")
        self.same(work / "large", there / "scp")
        batch = f"put {work}/large {there}/sftp\nget {there}/sftp {work}/back\n"
        self.through("sftp", "-F", self.ssh_config, "-b", "-", HOST_NAME, stdin=batch)
        self.same(work / "large", work / "back")
        ssh = f"ssh -F {shlex.quote(str(self.ssh_config))}"
        if shutil.which("rsync"):
            self.through("rsync", "-a", "-e", ssh, work / "large", f"{HOST_NAME}:{there}/rsync")
            self.same(work / "large", there / "rsync")
        if git := shutil.which("git"):
            self.git(git, ssh, work, there)

    def git(self, git: str, ssh: str, work: Path, there: Path) -> None:
        run(git, "init", "-q", "--bare", there / "repo")
        repo = work / "repo"
        run(git, "init", "-q", repo)
        run(git, "-C", repo, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "one")
        folder = Path(git).parent
        tools = ["-c", f"core.sshCommand={ssh}"]
        url = f"{HOST_NAME}:{there}/repo"
        push = ["push", "-q", f"--receive-pack={folder}/git-receive-pack", url, "HEAD:refs/heads/main"]
        self.through(git, "-C", repo, *tools, *push)
        fetch = ["ls-remote", f"--upload-pack={folder}/git-upload-pack", url]
        self.assertIn("refs/heads/main", self.through(git, "-C", repo, *tools, *fetch).stdout)

    def same(self, one: Path, other: Path) -> None:
        self.assertEqual(one.read_bytes(), other.read_bytes())

    def test_scp_sftp_rsync_and_git(self) -> None:
        self.enroll()
        self.each_way()


if __name__ == "__main__":
    unittest.main()
