"""The device's side as people use it: ssh, scp, sftp, rsync and git through the door, on real networks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import threading
import unittest
from pathlib import Path

import harness
import spa1
from device import CLIENT, Device
from harness import (
    FAMILIES,
    GATEWAY,
    HOST_NAME,
    Done,
    as_object,
    eventually,
    run,
)


def setUpModule() -> None:
    harness.require("ssh", "scp", "sftp", "ssh-keygen")


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

    def test_nothing_is_left_running(self) -> None:
        """Both ways of being a proxy end with the connection."""
        self.enroll()
        for block in self.blocks()[:2]:
            self.configure_ssh(block)
            for _ in range(3):
                self.through("ssh", "-F", self.ssh_config, HOST_NAME, "true")
        left = lambda: run("pgrep", "-fc", f"{CLIENT} proxy {HOST_NAME}", check=False).stdout.strip()  # noqa: E731
        eventually(lambda: left() == "0", what="no proxy left")

    def proxy(self, stdin: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
        argv = self.friend.argv(*self.environment(), CLIENT, "proxy", HOST_NAME, HOST_NAME, "5432", *options)
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=60)

    def test_a_half_closed_connection_goes_on(self) -> None:
        """The other side answers only once it has seen the end of what was sent."""
        self.enroll("alice", "ssh,db")
        service = self.network.gateway.socket(socket.AF_INET6, socket.SOCK_STREAM)
        self.addCleanup(service.close)
        service.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        service.bind(("::", 5432))
        service.listen(8)
        sent = os.urandom(32 << 20)

        def serve() -> None:
            while True:
                with contextlib.suppress(OSError), service.accept()[0] as connection:
                    got = b"".join(iter(lambda: connection.recv(1 << 20), b""))
                    connection.sendall(hashlib.sha256(got).digest() + got[::-1] if got else b"")
                    continue
                return

        threading.Thread(target=serve, daemon=True).start()
        done = self.proxy(sent)
        self.assertEqual(done.stderr, b"")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, hashlib.sha256(sent).digest() + sent[::-1])

    def test_a_proxy_says_why(self) -> None:
        self.enroll("alice", "ssh,db")
        done = self.proxy(b"", "--timeout", "1s")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"db is not running there", done.stderr)
        done = self.proxy(b"", "--timeout", "1s", "--fdpass")
        self.assertEqual(done.returncode, 1)

    def test_two_gateways_the_first_dead(self) -> None:
        self.enroll()
        self.change_profile(f'host = "{HOST_NAME}"', 'host = "10.77.1.77"')
        second = self.gateway.invite("alice.2")
        self.client("enroll", "-", "--profile", HOST_NAME, "--also", stdin=second, check=False)
        # One gateway cannot be in a profile twice: make the first one another that is dead.
        text = self.profile().read_text()
        dead = spa1.to_base64(spa1.public_key(secrets.token_bytes(32)))
        public = spa1.to_base64(self.gateway.public)
        self.profile().write_text(text.replace(public, dead, 1))
        self.client("enroll", "-", "--profile", HOST_NAME, "--also", stdin=second)
        eventually(lambda: self.enrolled("alice.2"))
        done = self.client("open", HOST_NAME, "ssh", "--wait", "--timeout", "1s", "--json")
        self.assertEqual(as_object(done.stdout)["services"], [{"name": "ssh", "state": "open"}])
        self.assertIn("warning: 10.77.1.77: ssh did not open within 1s; trying gateway.test", done.stderr)
        self.client("close", HOST_NAME, "ssh", "--once")
        eventually(lambda: not self.gateway.entries(), what="closed at both")
        words = ("-l", "root", "--", "echo", "inside")
        self.assertEqual(self.ssh(*words, before=("--timeout", "1s")).stdout, "inside\n")

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
