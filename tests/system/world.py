"""A gateway and a device as the pages speak of them: programs installed, and system folders that are the test's own."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import subprocess
import unittest

import harness
import spa1
from harness import ADMIN, BIN, FAMILIES, GATEWAY, Done, Host, Network, Process, Sshd, eventually, run

PROGRAMS = ("spa-server", "spa-keys", "spa-client")
HOST = "gw.example.net"
# As in a session over ssh.
CONNECTION = f"{ADMIN[4]} 50000 {GATEWAY[4]} 22"
# Typed on the device; all else is typed on the gateway.
ON_THE_DEVICE = ("spa-client", "ssh", "scp", "knock", "chmod")
# What goes on until Ctrl-C, and what it says once it is there.
ONGOING = {
    "spa-client watch": r"\bopen\b",
    "spa-server status --watch --json": r"^\{",
    "tcpdump": "listening on",
}


def plain(command: str) -> str:
    """Without the comment behind it."""
    return re.sub(r"\s+# .*$", "", command)


class World:
    """A gateway and a device, whose system folders are the test's own, and an sshd with an account `anna`."""

    def __init__(self, case: unittest.TestCase, installed: bool = True) -> None:
        self.case, self.network = case, Network()
        case.addCleanup(self.network.remove)
        folder = self.network.folder
        self.work, self.home, self.etc, self.lib = (folder / name for name in ("work", "home", "etc", "lib"))
        self.local, self.run_folder = folder / "local", folder / "run"
        for made in (self.work, self.home / ".ssh", self.lib, self.run_folder, self.local / "bin", self.local / "sbin"):
            made.mkdir(parents=True)
        (self.home / ".ssh").chmod(0o700)
        self.make_etc()
        self.make_programs(installed)
        binds = {"/etc": self.etc, "/var/lib": self.lib, "/run": self.run_folder, "/usr/local": self.local}
        self.binds = {**binds, "/root": self.home}
        self.daemon: Process | None = None
        self.invite = self.profile = ""
        # What a page writes in capitals, and what it is here.
        self.words: dict[str, str] = {}
        self.make_sshd()

    # What stands on the hosts

    def make_etc(self) -> None:
        shutil.copytree("/etc", self.etc, symlinks=True)
        shutil.rmtree(self.etc / "spa", ignore_errors=True)
        names = "".join(f"{GATEWAY[family]} {HOST}\n" for family in FAMILIES)
        (self.etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{names}")
        for file, line in (("passwd", "anna:x:0:0::/root:/bin/sh\n"), ("shadow", "anna:*:19000:0:99999:7:::\n")):
            with (self.etc / file).open("a") as accounts:
                accounts.write(line)

    def make_programs(self, installed: bool) -> None:
        built = self.work / "target" / "release"
        built.mkdir(parents=True)
        for name in PROGRAMS:
            (built / name).symlink_to(BIN / name)
        # Scripts, not links: a page may install something in their place.
        own = [(f"sbin/{name}", f'exec {BIN / name} "$@"') for name in PROGRAMS if installed]
        # Somebody's own programs that the pages name.
        for place, text in (*own, ("bin/vpn", "exit 0"), ("bin/pass", "echo a passphrase")):
            (self.local / place).write_text(f"#!/bin/sh\n{text}\n")
            (self.local / place).chmod(0o755)

    def make_sshd(self) -> None:
        sshd = Sshd(self.network, {"/etc": self.etc})
        self.case.addCleanup(sshd.remove)
        keys = (sshd.folder / "host.pub").read_text()
        (self.home / ".ssh" / "known_hosts").write_text("".join(f"{name} {keys}" for name in (HOST, *GATEWAY.values())))
        (self.home / ".ssh" / "config").write_text(
            f"Host *\n    IdentityFile {sshd.folder}/user\n    IdentitiesOnly yes\n    BatchMode yes\n"
        )

    # Typing

    def argv(self, host: Host, command: str) -> list[str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        script = f"cd {self.work} && {command}"
        clean = ("env", "-i", f"PATH={path}", "HOME=/root", "LANG=C.UTF-8", f"SSH_CONNECTION={CONNECTION}")
        return host.argv(*clean, "bash", "-c", script, bind=self.binds)

    def type(self, command: str, stdin: str = "") -> Done:
        return run(*self.argv(self.host_of(command), command), check=False, stdin=stdin, timeout=60)

    def host_of(self, command: str) -> Host:
        on_device = plain(command).split()[0].removeprefix("./") in ON_THE_DEVICE
        return self.network.friend if on_device else self.network.gateway

    def do(self, command: str, stdin: str = "") -> str:
        """For what a page takes for granted."""
        done = self.type(command, stdin)
        self.case.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        if self.daemon:
            return
        daemon = Process(self.argv(self.network.gateway, "exec spa-server run"))
        self.daemon = daemon
        self.case.addCleanup(daemon.end)
        eventually(lambda: "ready" in daemon.out or daemon.process.poll() is not None, 20, "ready")
        self.case.assertEqual(daemon.out, ["ready"], daemon.text())

    def stop(self) -> None:
        if self.daemon:
            self.daemon.process.send_signal(signal.SIGTERM)
            self.case.assertEqual(self.daemon.wait(), 0, self.daemon.text())
            self.daemon.end()
            self.daemon = None

    def watch(self, command: str) -> Done:
        """What goes on until Ctrl-C; a knock comes by meanwhile, which it may be about."""
        watching = Process(self.argv(self.host_of(command), f"exec {plain(command)}"))
        self.case.addCleanup(watching.end)
        there = next(said for begins, said in ONGOING.items() if command.startswith(begins))
        eventually(lambda: re.search(there, "\n".join(watching.out + watching.err), re.MULTILINE), 15, command)
        if "spa-client" not in command:
            self.do(f"spa-client open {HOST} ssh --once")
        watching.process.send_signal(signal.SIGINT)
        code = watching.wait()
        ended = 0 if code in (0, 130, -signal.SIGINT) else code
        return subprocess.CompletedProcess(command, ended, "", watching.text())

    def run_line(self, command: str) -> Done:
        """A line of a page."""
        for word, meant in self.words.items():
            command = re.sub(rf"\b{word}\b", meant, command)
        bare = plain(command)
        if bare == "spa-server run":
            self.start()
            return subprocess.CompletedProcess(bare, 0, "", "")
        if bare.startswith(tuple(ONGOING)):
            return self.watch(command)
        done = self.type(command, self.invite if bare.endswith("spa-client enroll") else "")
        if found := re.search(r"^spa1-invite:\S+$", done.stdout, re.MULTILINE):
            self.invite = found[0] + "\n"
        if bare.endswith("--profile"):
            self.profile = done.stdout
        return done

    # What is there beforehand

    def set_up(self) -> None:
        self.do(f"spa-server init --host {HOST} --service ssh=tcp/22 --service db=tcp/5432 --always-allow 192.0.2.0/28")
        if harness.BACKEND != "iptables":
            file = self.etc / "spa" / "server.toml"
            file.write_text(file.read_text().replace('"iptables"]', f'"{harness.BACKEND}"]'))
        self.start()

    def enroll(self, name: str = "anna") -> None:
        """The device becomes this client."""
        shutil.rmtree(self.home / ".config", ignore_errors=True)
        self.do("spa-client enroll", self.do(f"spa-keys invite {name} --services ssh"))
        self.is_client(name)

    def is_client(self, name: str) -> None:
        eventually(lambda: (self.etc / "spa" / "clients.d" / f"{name}.toml").exists(), 5, f"{name} enrolled")

    def add(self, *names: str) -> None:
        """Clients whose devices are elsewhere."""
        for name in names:
            public = spa1.to_base64(spa1.public_key(secrets.token_bytes(32)))
            psk = spa1.to_base64(secrets.token_bytes(32))
            self.do(f"spa-keys add {name} --public-key={public} --psk-file - --services ssh", psk)
