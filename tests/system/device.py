"""A device that is enrolled at a running gateway, and servers that tell it its public address."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from pathlib import Path

from harness import (
    BIN,
    GATEWAY,
    HOST_NAME,
    Done,
    Host,
    Process,
    SystemTest,
    eventually,
    inet,
    run,
)

CLIENT = str(BIN / "spa-client")
MAGIC = 0x2112A442


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

    def start_client(self, *arguments: str) -> Process:
        """spa-client in the background, on friend."""
        process = Process(self.friend.argv(*self.environment(), CLIENT, *arguments))
        self.addCleanup(process.end)
        return process

    def granted(self) -> set[str]:
        """The addresses that ssh is open for."""
        return {grant["opened"] for grant in self.gateway.grants() if grant["service"] == "ssh"}

    def add_to_gateway(self, *addresses: str) -> None:
        """More addresses of the gateway's host, on the link to friend."""
        for address in addresses:
            length, options = ("64", ["nodad"]) if ":" in address else ("24", [])
            ip = ("ip", "-n", self.network.gateway.name, "addr", "add")
            run(*ip, f"{address}/{length}", "dev", "friend0", *options)


class StunServer:
    """RFC 8489 by hand. It tells who asks its address, or what it is told to say."""

    def __init__(self, host: Host, address: str, says: str | None = None, manner: str = "honest") -> None:
        self.says, self.manner = says, manner
        self.asked = 0
        self.socket = host.socket(inet(address), socket.SOCK_DGRAM)
        self.socket.bind((address, 3478))
        self.socket.settimeout(0.1)
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while not self.ends.is_set():
            with contextlib.suppress(TimeoutError):
                request, peer = self.socket.recvfrom(2048)
                self.asked += 1
                for answer in self.answers(request, peer[0]):
                    self.socket.sendto(answer, peer)

    def answers(self, request: bytes, peer: str) -> list[bytes]:
        kind, length, magic = struct.unpack("!HHI", request[:8])
        if (kind, length, magic, len(request)) != (1, 0, MAGIC, 20):
            raise AssertionError(f"no binding request: {request.hex()}")
        transaction = request[8:]
        if self.manner == "silent":
            return []
        if self.manner == "spoofed":
            return [self.answer(bytes(12), "192.0.2.66"), self.answer(transaction[::-1], "192.0.2.66"), b"\x01\x01"]
        return [self.answer(transaction, self.says or peer)]

    @staticmethod
    def answer(transaction: bytes, address: str) -> bytes:
        packed = ipaddress.ip_address(address).packed
        mask = struct.pack("!I", MAGIC) + transaction
        hidden = bytes(one ^ other for one, other in zip(packed, mask, strict=False))
        family = 1 if len(packed) == 4 else 2
        value = struct.pack("!BBH", 0, family, 0) + hidden
        software = struct.pack("!HH", 0x8022, 3) + b"abc\0"
        attributes = software + struct.pack("!HH", 0x0020, len(value)) + value
        return struct.pack("!HHI", 0x0101, len(attributes), MAGIC) + transaction + attributes

    def end(self) -> None:
        self.ends.set()
        self.thread.join(5)
        self.socket.close()
