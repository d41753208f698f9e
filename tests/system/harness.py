"""What every system test stands on: namespaces, a gateway, an sshd, and ways to look at what the kernel does.

The network of one test is three hosts:

    friend ── 10.77.1.0/24, fd77:1::/64 ── gateway ── 10.77.2.0/24, fd77:2::/64 ── stranger

Nothing outside these namespaces and one temporary folder is touched. Whatever a test starts is ended by its process
id, whatever it makes is removed: at the end of the test, at exit, and on a signal. Nothing sleeps in order to wait for
a state: `eventually` looks until it is there, for a bounded time.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import ipaddress
import itertools
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "outside"))

import spa1  # noqa: E402

BACKEND = os.environ.get("SPA_BACKEND", "iptables")
BIN = Path(os.environ.get("SPA_BIN", ROOT / "target" / "debug")).resolve()
KNOCK_PORT = 62201
HOST_NAME = "gateway.test"
GATEWAY = {4: "10.77.1.1", 6: "fd77:1::1"}
FRIEND = {4: "10.77.1.2", 6: "fd77:1::2"}
FRIEND_TOO = {4: "10.77.1.3", 6: "fd77:1::3"}
ADMIN = {4: "10.77.1.9", 6: "fd77:1::9"}
STRANGER = {4: "10.77.2.2", 6: "fd77:2::2"}
FAMILIES = (4, 6)
REASONS = (
    *("shape", "tag", "copy", "who", "rate", "payload", "time", "replay"),
    *("policy", "code", "enroll", "older", "record", "backend"),
)
CLONE_NEWNET = 0x4000_0000
# Runs what follows as on a host without ipset.
NO_IPSET = (sys.executable, str(Path(__file__).with_name("no_ipset.py")))
T = TypeVar("T")


def require(*tools: str, binaries: Iterable[str] = ("spa-server", "spa-keys", "spa-client")) -> None:
    """Skips the module, saying why, when something that it needs is not there."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root, for network namespaces")
    missing = [tool for tool in ("ip", "iptables", "ip6tables", "ipset", *tools) if not shutil.which(tool)]
    missing += [str(BIN / name) for name in binaries if not (BIN / name).exists()]
    if missing:
        raise unittest.SkipTest(f"not there: {', '.join(missing)}")


def eventually(look: Callable[[], T], seconds: float = 5.0, what: str = "") -> T:
    """The first truthy answer of `look`; AssertionError with the last one when the time is over."""
    end = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise AssertionError(f"not within {seconds:g} s: {what or look} (last answer {answer!r})")
        time.sleep(0.02)


def never(look: Callable[[], object], seconds: float, what: str) -> None:
    """Fails as soon as `look` is truthy; for what must stay as it is during `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := look():
            raise AssertionError(f"happened, and must not: {what} ({answer!r})")
        time.sleep(0.02)


# Whatever was made and not yet removed, in the order of its making.
_left: dict[int, Callable[[], None]] = {}
_numbers = itertools.count()


def at_end(undo: Callable[[], None]) -> Callable[[], None]:
    """Registers `undo` for the exit of this process; returns what does it now and only once."""
    number = next(_numbers)
    _left[number] = undo

    def once() -> None:
        if _left.pop(number, None):
            undo()

    return once


@atexit.register
def clean_up() -> None:
    while _left:
        _, undo = _left.popitem()
        with contextlib.suppress(Exception):
            undo()


def _on_signal(number: int, _frame: FrameType | None) -> None:
    clean_up()
    os._exit(128 + number)  # unittest would take a SystemExit for a failed test and go on


if threading.current_thread() is threading.main_thread():
    for _number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, _on_signal)


def run(*argv: str | Path, check: bool = True, stdin: str = "", timeout: float = 30, **options: Any) -> Done:
    done = subprocess.run([*map(str, argv)], input=stdin, capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


Done = subprocess.CompletedProcess[str]


# Hosts


class Host:
    """One network namespace."""

    def __init__(self, name: str, hosts_file: Path) -> None:
        self.name = name
        self._hosts_file = hosts_file
        run("ip", "netns", "add", name)
        self.remove = at_end(lambda: remove_namespace(name))
        self.run("ip", "link", "set", "lo", "up")

    def argv(self, *argv: str | Path, bind: Mapping[str, Path] | None = None) -> list[str]:
        """`argv` in this namespace, with our hosts file: `ip netns exec` gives each process its own mounts."""
        binds = {"/etc/hosts": self._hosts_file, **(bind or {})}
        mounts = [f"mount --bind {shlex.quote(str(file))} {shlex.quote(over)}" for over, file in binds.items()]
        script = " && ".join([*mounts, 'exec "$0" "$@"'])
        return ["ip", "netns", "exec", self.name, "sh", "-c", script, *map(str, argv)]

    def run(self, *argv: str | Path, check: bool = True, **options: Any) -> Done:
        return run(*self.argv(*argv), check=check, **options)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this namespace for as long as the block runs: sockets made there stay there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.inside():
            return socket.socket(family, kind, protocol)

    def send(self, datagram: bytes, to: str, port: int = KNOCK_PORT, source: str | None = None, times: int = 1) -> int:
        """Sends one UDP datagram; the source port it had."""
        with self.socket(inet(to), socket.SOCK_DGRAM) as udp:
            if source:
                udp.bind((source, 0))
            for _ in range(times):
                # A closed port answers by ICMP, which the next call on the socket would report.
                with contextlib.suppress(ConnectionRefusedError):
                    udp.sendto(datagram, (to, port))
            return int(udp.getsockname()[1])

    def reach(self, to: str, port: int = 22, source: str | None = None, seconds: float = 0.6) -> str:
        """What a TCP connection meets: "open", "closed" (refused) or "filtered" (nothing)."""
        with self.socket(inet(to), socket.SOCK_STREAM) as tcp:
            if source:
                tcp.bind((source, 0))
            tcp.settimeout(seconds)
            try:
                tcp.connect((to, port))
            except ConnectionRefusedError:
                return "closed"
            except OSError:
                return "filtered"
            return "open"

    def is_open(self, to: str, port: int = 22, source: str | None = None) -> bool:
        return self.reach(to, port, source) == "open"


def void(_: object) -> None:
    """For callbacks that return nothing."""


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def inet(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Network:
    """The three hosts of one test, named after this process so that two runs never meet."""

    def __init__(self) -> None:
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"spa-system-{os.getpid()}-"))
        self._remove_folder = at_end(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        hosts_file = self.folder / "hosts"
        lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{GATEWAY[family]} {HOST_NAME}" for family in FAMILIES)]
        hosts_file.write_text("\n".join(lines) + "\n")
        number = next(_numbers)
        names = [f"spa-{os.getpid()}-{number}-{role}" for role in ("gateway", "friend", "stranger")]
        self.gateway, self.friend, self.stranger = (Host(name, hosts_file) for name in names)
        self.link("friend")
        self.link("stranger")

    def link(self, role: str) -> None:
        """Ties a host to the gateway, whose interface is called `friend0` or `stranger0`."""
        host, near, subnet = getattr(self, role), f"{role}0", 1 if role == "friend" else 2
        make = ("ip", "-n", self.gateway.name, "link", "add", near, "type", "veth", "peer", "name", "eth0")
        run(*make, "netns", host.name)
        run("ip", "-n", self.gateway.name, "-batch", "-", stdin=configure(near, subnet, [1]))
        run("ip", "-n", host.name, "-batch", "-", stdin=configure("eth0", subnet, [2, 3, 9], gateway=1))
        for address in (f"10.77.{subnet}.1", f"fd77:{subnet}::1"):
            # Port 1 is nobody's: a refusal is an answer, so the path is up.
            eventually(lambda to=address: host.reach(to, 1, seconds=0.1) == "closed", 5, f"path to {address}")

    def unlink(self, role: str) -> None:
        run("ip", "-n", self.gateway.name, "link", "del", f"{role}0")

    def remove(self) -> None:
        for host in (self.stranger, self.friend, self.gateway):
            host.remove()
        self._remove_folder()


def configure(interface: str, subnet: int, numbers: Iterable[int], gateway: int | None = None) -> str:
    lines = [f"link set {interface} up"]
    for number in numbers:
        lines.append(f"addr add 10.77.{subnet}.{number}/24 dev {interface}")
        # Of several IPv6 addresses the kernel prefers the last one added, unless the others are deprecated for it.
        preferred = "forever" if number <= 2 else "0"
        lines.append(f"addr add fd77:{subnet}::{number}/64 dev {interface} nodad preferred_lft {preferred}")
    if gateway:
        lines.append(f"route add default via 10.77.{subnet}.{gateway}")
        lines.append(f"route add default via fd77:{subnet}::{gateway}")
    return "\n".join(lines) + "\n"


def remove_namespace(name: str) -> None:
    """Ends what still runs in it, such as the sessions of an sshd that is gone: all of it was started by the test."""
    for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", name, check=False)


def remove_leftovers() -> None:
    """Namespaces and folders of test runs that were killed before they could clean up."""
    for found in re.finditer(r"^spa-(\d+)-\d+-\w+", run("ip", "netns", "list").stdout, re.MULTILINE):
        if not Path(f"/proc/{found[1]}").exists():
            remove_namespace(found[0])
    for folder in Path(tempfile.gettempdir()).glob("spa-system-*"):
        if not Path(f"/proc/{folder.name.split('-')[2]}").exists():
            for mounted in (*folder.glob("*/state"), *folder.glob("*/clients.d")):
                run("umount", "-l", mounted, check=False)
            shutil.rmtree(folder, ignore_errors=True)


# Processes


class Process:
    """A process with its output collected line by line; ended by its id."""

    def __init__(self, argv: list[str], **options: Any) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, **options)
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [self._collect(self.process.stdout, self.out), self._collect(self.process.stderr, self.err)]
        self.end = at_end(self._end)

    def _collect(self, stream: Any, lines: list[str]) -> threading.Thread:
        reader = threading.Thread(target=collect_lines, args=(stream, lines), daemon=True)
        reader.start()
        return reader

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, seconds: float = 10) -> int:
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def text(self) -> str:
        return "\n".join(self.err)


def collect_lines(stream: Iterable[str], lines: list[str]) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in stream:
            lines.append(line.rstrip("\n"))


# Gateway


@dataclass
class Service:
    """One [[service]] of server.toml."""

    name: str = "ssh"
    ports: list[str] = field(default_factory=lambda: ["tcp/22"])
    duration: str = "30s"
    max_duration: str = "8h"
    at_end: str = "keep"
    backend: str = BACKEND

    def to_toml(self) -> str:
        return (
            f'[[service]]\nname = "{self.name}"\nbackends = ["{self.backend}"]\nports = {json.dumps(self.ports)}\n'
            f'protect = true\nduration = "{self.duration}"\nmax-duration = "{self.max_duration}"\n'
            f'at-end = "{self.at_end}"\n'
        )


def server_toml(
    *services: Service,
    interfaces: Iterable[str] = ("any",),
    ports: Iterable[int] = (KNOCK_PORT,),
    always_allow: Iterable[str] = (f"{ADMIN[4]}/32", f"{ADMIN[6]}/128"),
    keep_doors: bool = True,
) -> str:
    head = (
        f'[gateway]\nhost = "{HOST_NAME}"\n[listen]\ninterfaces = {json.dumps(list(interfaces))}\n'
        f"ports = {json.dumps(list(ports))}\n[lock-out]\nalways-allow = {json.dumps(list(always_allow))}\n"
        f"keep-doors = {json.dumps(keep_doors)}\n"
    )
    return head + "".join(service.to_toml() for service in services or (Service(), Service("db", ["tcp/5432"])))


class Gateway:
    """spa-server with a folder of its own in the gateway's namespace."""

    def __init__(self, network: Network, toml: str | None = None) -> None:
        self.network, self.host = network, network.gateway
        self.dir = network.folder / f"gateway{next(_numbers)}"
        self.daemon: Process | None = None
        self.past_logs: list[str] = []
        # What comes before spa-server, and what is laid over files for its eyes.
        self.wrapper: tuple[str, ...] = ()
        self.bind: dict[str, Path] = {}
        self.control("init", "--host", HOST_NAME, "--service", "ssh=tcp/22", "--always-allow", f"{ADMIN[4]}/32")
        self.configure(server_toml() if toml is None else toml)
        (identity,) = self.keys_json("gateway", "show", "--secrets")["identities"]
        self.public, self.hmac_key = spa1.from_base64(identity["public_key"]), spa1.from_base64(identity["hmac_key"])

    def configure(self, toml: str) -> None:
        """Replaces server.toml; it is not loaded by that."""
        (self.dir / "server.toml").write_text(toml)

    # Commands

    def control(self, command: str, *options: str, check: bool = True, timeout: float = 20) -> Done:
        argv = [*self.wrapper, str(BIN / "spa-server"), command, "--dir", str(self.dir), *options]
        return run(*self.host.argv(*argv, bind=self.bind), check=check, timeout=timeout)

    def keys(self, *options: str, check: bool = True, stdin: str = "") -> Done:
        argv = self.host.argv(BIN / "spa-keys", *options, "--dir", str(self.dir), bind=self.bind)
        return run(*argv, check=check, stdin=stdin)

    def control_json(self, command: str, *options: str) -> dict[str, Any]:
        return as_object(self.control(command, "--json", *options).stdout)

    def keys_json(self, *options: str) -> dict[str, Any]:
        return as_object(self.keys(*options, "--json").stdout)

    def status(self) -> dict[str, Any]:
        return self.control_json("status")

    def refused(self, *reasons: str) -> int:
        """How many datagrams were refused for these reasons, for all when none is named."""
        counts = self.status()["refused"]
        return sum(counts[reason] for reason in reasons or REASONS)

    def explained(self, count: int = 20) -> list[dict[str, Any]]:
        return list(self.control_json("explain", str(count))["refused"])

    def grants(self) -> list[dict[str, Any]]:
        return list(self.control_json("grants")["grants"])

    def invite(self, name: str, services: str = "ssh", *options: str) -> str:
        text = self.keys("invite", name, "--services", services, *options).stdout
        if not re.fullmatch(r"spa1-invite:[A-Za-z0-9_-]+\n", text):
            raise AssertionError(f"not an invite and a newline: {text!r}")
        return text.strip()

    # Life

    def start(
        self, *options: str, ready: bool = True, seconds: float = 20, bind: Mapping[str, Path] | None = None
    ) -> Gateway:
        """Runs the daemon and waits for `ready`; `bind` lays files over others, for its eyes only."""
        if self.daemon:
            raise AssertionError("the gateway runs already")
        argv = [*self.wrapper, BIN / "spa-server", "run", "--dir", self.dir, *options]
        argv = self.host.argv(*argv, bind={**self.bind, **(bind or {})})
        self.daemon = Process(argv)
        if ready:
            self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds: float = 20) -> None:
        daemon = self.running()
        try:
            eventually(lambda: "ready" in daemon.out or daemon.process.poll() is not None, seconds, "ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{daemon.text()}") from None
        if daemon.out != ["ready"]:
            raise AssertionError(f"stdout {daemon.out}, exit {daemon.process.poll()}\n{daemon.text()}")

    def running(self) -> Process:
        if not self.daemon:
            raise AssertionError("the gateway does not run")
        return self.daemon

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """Sends a signal and waits for the end; the exit code."""
        daemon = self.running()
        daemon.process.send_signal(number)
        code = daemon.wait(seconds)
        self.past_logs += daemon.err
        daemon.end()
        self.daemon = None
        return code

    def kill9(self) -> None:
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        if code := self.stop():
            raise AssertionError(f"SIGTERM ended it with {code}\n{self.log()}")
        self.start()

    def reload(self) -> None:
        """SIGHUP; what came of it is in status.config."""
        self.running().process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        return "\n".join([*self.past_logs, *(self.daemon.err if self.daemon else [])])

    def remove(self) -> None:
        if self.daemon:
            self.daemon.end()
            self.daemon = None

    # The kernel's side

    def entries(self, service: str = "ssh", family: int | None = None) -> dict[str, int]:
        """What is in the sets of a service, with the seconds left; empty when there is no such set."""
        if BACKEND == "nftables":
            return self._nft_entries(service, [family] if family else FAMILIES)
        found: dict[str, int] = {}
        for number in [family] if family else FAMILIES:
            saved = self.host.run("ipset", "save", f"spa{number}-{service}", check=False).stdout
            for line in re.finditer(r"^add \S+ (\S+) timeout (\d+)", saved, re.MULTILINE):
                found[line[1]] = int(line[2])
        return found

    def _nft_entries(self, service: str, families: Iterable[int]) -> dict[str, int]:
        found: dict[str, int] = {}
        listed = self.host.run("nft", "-j", "list", "table", "inet", "spa", check=False).stdout
        for item in json.loads(listed or "{}").get("nftables", []):
            name, _, length = item.get("set", {}).get("name", "").partition("/")
            if name in [f"spa{number}-{service}" for number in families]:
                for entry in item["set"].get("elem", []):
                    address, left = entry["elem"]["val"], entry["elem"]["expires"]
                    found[f"{address}/{length}" if length else address] = left
        return found

    def flush_set(self, name: str) -> None:
        """Somebody empties a set."""
        if BACKEND == "nftables":
            self.host.run("nft", "flush", "set", "inet", "spa", name)
        else:
            self.host.run("ipset", "flush", name)

    def put_entry(self, name: str, address: str, seconds: int) -> None:
        """Somebody puts an address into a set."""
        if BACKEND == "nftables":
            self.host.run("nft", "add", "element", "inet", "spa", name, f"{{ {address} timeout {seconds}s }}")
        else:
            self.host.run("ipset", "add", name, address, "timeout", str(seconds))

    def connection_entries(self) -> int:
        return int(self.host.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count").stdout)

    def rules(self, family: int = 4, table: str = "filter") -> str:
        if BACKEND == "nftables":
            return self.host.run("nft", "list", "table", "inet", "spa", check=False).stdout
        return self.host.run("iptables-save" if family == 4 else "ip6tables-save", "-t", table).stdout


def as_object(text: str) -> dict[str, Any]:
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise AssertionError(f"not one object: {text!r}")
    return answer


# The outside client


class Outside:
    """A client that shares no line with spa-client."""

    def __init__(self, keys: spa1.ClientKeys) -> None:
        self.keys = keys

    @classmethod
    def add(cls, gateway: Gateway, name: str, services: Iterable[str] = ("ssh",), **settings: object) -> Outside:
        """Puts a new client's file into clients.d; returns when a running daemon knows it, within a second or two."""
        client = cls(fresh_keys(gateway))
        before = sum(gateway.status()["clients"].values()) if gateway.daemon else None
        client.write_file(gateway, name, services, **settings)
        if before is not None:
            eventually(lambda: sum(gateway.status()["clients"].values()) > before, 2, f"{name} known to the daemon")
        return client

    def write_file(self, gateway: Gateway, name: str, services: Iterable[str] = ("ssh",), **settings: object) -> None:
        lines = {
            "public-key": spa1.to_base64(self.keys.public),
            "psk": spa1.to_base64(self.keys.psk),
            "services": list(services),
            **{key.replace("_", "-"): value for key, value in settings.items()},
        }
        folder = gateway.dir / "clients.d"
        whole = folder.parent / f".{name}.new"
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        whole.rename(folder / f"{name}.toml")

    def payload(self, kind: int = spa1.OPEN, *services: str, offset: float = 0.0, **fields: Any) -> spa1.Payload:
        return spa1.service_payload(kind, services or ("ssh",), timestamp=spa1.timestamp_now(offset), **fields)

    def open(self, host: Host, to: str, *services: str, source: str | None = None, **fields: Any) -> bytes:
        """Sends an open, as seen unless an address is given; the datagram."""
        datagram = spa1.seal(self.keys, self.payload(spa1.OPEN, *services, **fields))
        host.send(datagram, to, source=source)
        return datagram

    def close(self, host: Host, to: str, *services: str, **fields: Any) -> bytes:
        datagram = spa1.seal(self.keys, self.payload(spa1.CLOSE, *services, **fields))
        host.send(datagram, to)
        return datagram


def fresh_keys(gateway: Gateway) -> spa1.ClientKeys:
    return spa1.ClientKeys(gateway.public, gateway.hmac_key, secrets.token_bytes(32), secrets.token_bytes(32))


def enroll_datagram(text: str, keys: spa1.ClientKeys, label: str = "", code: int = spa1.NO_CODE) -> bytes:
    payload = spa1.enroll_payload(keys.public, keys.psk, label, timestamp=spa1.timestamp_now(), code=code)
    return spa1.seal(spa1.parse_invite(text).keys, payload)


# sshd


class Sshd:
    """A real sshd on port 22 of the gateway, with keys and configuration of its own, and the client's side of it."""

    def __init__(self, network: Network, bind: Mapping[str, Path] | None = None) -> None:
        self.network, self.folder = network, network.folder / "sshd"
        self.folder.mkdir()
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.folder / name)
        host_key = (self.folder / "host.pub").read_text()
        self.known = self.folder / "known_hosts"
        self.known.write_text("".join(f"{name} {host_key}" for name in (*GATEWAY.values(), HOST_NAME)))
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress 0.0.0.0\nListenAddress ::\nHostKey {self.folder}/host\nPidFile none\nUseDNS no\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nPermitRootLogin prohibit-password\nStrictModes no\n"
            f"PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
            f"MaxStartups 500\nUsePAM {'yes' if root_is_locked() else 'no'}\n"
        )
        # A folder /run/sshd that only this sshd sees: the process has mounts of its own.
        start = 'mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f "$0"'
        self.process = Process(network.gateway.argv("sh", "-c", start, config, bind=bind))
        for address in ("127.0.0.1", "::1"):
            eventually(lambda address=address: network.gateway.is_open(address), 10, f"sshd on {address}")

    def command(self, to: str, *options: str) -> list[str]:
        """The ssh command line, without the remote command."""
        settings = ("BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=3", f"UserKnownHostsFile={self.known}")
        flags = [word for setting in settings for word in ("-o", setting)]
        return ["ssh", "-F", "/dev/null", "-i", str(self.folder / "user"), *flags, *options, f"root@{to}"]

    def runs(self, host: Host, to: str, word: str = "inside") -> bool:
        """Whether ssh from `host` gets in and runs a command."""
        return host.run(*self.command(to), "echo", word, check=False).stdout == f"{word}\n"

    def remove(self) -> None:
        self.process.end()


def is_greeted(host: Host, to: str, source: str, seconds: float) -> bool:
    """A firewall lets nothing through; an sshd that refuses by libwrap says nothing, and hangs up after 5 s."""
    with host.socket(inet(to), socket.SOCK_STREAM) as tcp:
        tcp.bind((source, 0))
        tcp.settimeout(seconds)
        try:
            tcp.connect((to, 22))
            return tcp.recv(4) == b"SSH-"
        except OSError:
            return False


def root_is_locked() -> bool:
    """A locked password shuts root out of an sshd that does not ask PAM."""
    try:
        return any(line.startswith("root:!") for line in Path("/etc/shadow").read_text().splitlines())
    except OSError:
        return False


# Frames by hand


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    words = struct.unpack(f"!{(len(octets) + 1) // 2}H", octets + bytes(len(octets) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_packet(source: str, to: str, source_port: int, port: int, data: bytes, length: int | None = None) -> bytes:
    """A UDP header with its checksum and the data; `length` lies about the length."""
    header = struct.pack("!HHHH", source_port, port, 8 + len(data) if length is None else length, 0)
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(to).packed
    tail = struct.pack("!HH" if ":" not in to else "!II", 17, 8 + len(data))
    return header[:6] + struct.pack("!H", checksum(addresses + tail + header + data) or 0xFFFF) + data


def ipv4_packet(source: str, to: str, data: bytes, *, offset: int = 0, more: bool = False, number: int = 0) -> bytes:
    """An IPv4 packet that carries UDP or a fragment of it; the kernel fills in the header's checksum."""
    flags = (0x2000 if more else 0) | offset // 8
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), number, flags, 64, 17, 0)
    return header + socket.inet_pton(socket.AF_INET, source) + socket.inet_pton(socket.AF_INET, to) + data


def ipv6_packet(source: str, to: str, data: bytes, *, next_header: int = 17) -> bytes:
    header = struct.pack("!IHBB", 0x6000_0000, len(data), next_header, 64)
    return header + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to) + data


def fragment_header(offset: int, more: bool, number: int) -> bytes:
    return struct.pack("!BBHI", 17, 0, offset | more, number)


def send_packet(host: Host, to: str, packet: bytes) -> None:
    """Sends an IP packet whose header is given."""
    with host.socket(inet(to), socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet, (to, 0))


# Test cases


class SideBySide(unittest.TestSuite):
    """Tests that mostly wait, several at a time; each has a network of its own. They are reported one by one."""

    def __init__(self, tests: Iterable[unittest.TestCase], at_once: int = 6) -> None:
        super().__init__(tests)
        self._at_once = at_once

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        tests = [test for test in flat(self) if isinstance(test, unittest.TestCase)]
        with ThreadPoolExecutor(self._at_once) as pool:
            for test, own in zip(tests, pool.map(run_alone, tests), strict=True):
                report(test, own, result)
        return result


def flat(suite: unittest.TestSuite) -> Iterator[object]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def run_alone(test: unittest.TestCase) -> Outcomes:
    outcomes = Outcomes()
    test(outcomes)
    return outcomes


class Outcomes(unittest.TestResult):
    """What became of one test, with the exceptions themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.raised: list[tuple[str, Any]] = []

    def addError(self, test: object, err: Any) -> None:  # noqa: N802
        self.raised.append(("addError", err))

    def addFailure(self, test: object, err: Any) -> None:  # noqa: N802
        self.raised.append(("addFailure", err))

    def addSubTest(self, test: object, subtest: object, err: Any) -> None:  # noqa: N802
        if err:
            self.raised.append(("addFailure" if issubclass(err[0], AssertionError) else "addError", err))

    def addSkip(self, test: object, reason: str) -> None:  # noqa: N802
        self.raised.append(("addSkip", reason))


def report(test: unittest.TestCase, own: Outcomes, result: unittest.TestResult) -> None:
    result.startTest(test)
    for method, raised in own.raised:
        getattr(result, method)(test, raised)
    if not own.raised:
        result.addSuccess(test)
    result.stopTest(test)


class SystemTest(unittest.TestCase):
    """A network, and on it a gateway that does not run yet and, where `sshd` is true, an sshd."""

    with_sshd = True
    longMessage = True

    def setUp(self) -> None:
        self.network = Network()
        self.addCleanup(self.network.remove)
        self.friend, self.stranger = self.network.friend, self.network.stranger
        self.gateway = self.make_gateway()
        if self.with_sshd:
            self.sshd = Sshd(self.network)
            self.addCleanup(self.sshd.remove)

    def make_gateway(self, toml: str | None = None) -> Gateway:
        gateway = Gateway(self.network, toml)
        self.addCleanup(gateway.remove)
        self.addCleanup(self.show_log, gateway)
        return gateway

    def show_log(self, gateway: Gateway) -> None:
        """The daemon's log beside a failure, where it is wanted."""
        outcome = getattr(self, "_outcome", None)
        if outcome and not outcome.success:
            print(f"\n--- log of spa-server in {self.id()}\n{gateway.log()}\n---", file=sys.stderr)

    def client(self, *arguments: str, host: Host | None = None, check: bool = True, stdin: str = "") -> Done:
        """spa-client on friend, with a configuration folder of the test."""
        home = self.network.folder / "profiles"
        argv = ["env", f"SPA_CONFIG_DIR={home}", str(BIN / "spa-client"), *arguments]
        return (host or self.friend).run(*argv, check=check, stdin=stdin)

    # What tests say

    def assert_shut(self, host: Host | None = None, source: dict[int, str] | None = None, port: int = 22) -> None:
        self.assert_filtered(*((host or self.friend, family, source, port) for family in FAMILIES))

    def assert_filtered(self, *paths: tuple[Host, int, dict[int, str] | None, int]) -> None:
        """Connections over all these paths, tried at the same time, meet nothing."""

        def meets(path: tuple[Host, int, dict[int, str] | None, int]) -> str:
            host, family, source, port = path
            return host.reach(GATEWAY[family], port, source[family] if source else None)

        with ThreadPoolExecutor(len(paths)) as pool:
            for path, met in zip(paths, pool.map(meets, paths), strict=True):
                self.assertEqual(met, "filtered", f"{path[0].name} IPv{path[1]} port {path[3]}")

    def assert_opens(self, host: Host, to: str, port: int = 22, source: str | None = None, seconds: float = 3) -> None:
        eventually(lambda: host.is_open(to, port, source), seconds, f"{to} port {port} open")

    def assert_nothing_open(self) -> None:
        """No grant, no entry in a set, and no way in."""
        self.assertEqual(self.gateway.grants(), [])
        self.assertEqual(self.gateway.entries() | self.gateway.entries("db"), {})
        self.assert_filtered(
            *((host, family, None, 22) for host in (self.friend, self.stranger) for family in FAMILIES)
        )

    def barrier(self, host: Host | None = None) -> None:
        """Returns when all that was sent before from this host has been judged: packets are judged in their order."""
        nobody = Outside(fresh_keys(self.gateway))
        before = self.gateway.refused("who")
        nobody.open(host or self.friend, GATEWAY[4])
        eventually(lambda: self.gateway.refused("who") > before, 5, "packets judged")

    @contextlib.contextmanager
    def refusing(self, *reasons: str, count: int = 1, nothing_open: bool = True) -> Iterator[None]:
        """What is sent in the block is refused, for one of these reasons and for no other, and opens nothing."""
        before = self.gateway.status()
        yield

        def rise(names: Iterable[str]) -> int:
            now: dict[str, int] = self.gateway.status()["refused"]
            return sum(now[name] - before["refused"][name] for name in names)

        eventually(lambda: rise(reasons) >= count, 5, f"{count} refused for {' or '.join(reasons)}")
        self.barrier()
        others = [name for name in REASONS if name not in (*reasons, "who")]
        self.assertEqual(rise(reasons) - ("who" in reasons), count, f"refused for {reasons}")
        self.assertEqual(rise(others), 0, f"refused for another reason: {self.gateway.explained(5)}")
        self.assertEqual(self.gateway.status()["accepted"], before["accepted"], "accepted")
        if nothing_open:
            self.assert_nothing_open()

    def enrolled(self, name: str) -> bool:
        clients = self.gateway.keys_json("list")["clients"]
        return any(client["name"] == name and client["state"] == "active" for client in clients)

    # Disks

    def mount_small(self, folder: Path, size: str = "8m") -> None:
        """Puts a folder of the test on a file system of its own; undone at the end."""
        kept = folder.with_name(f"{folder.name}.kept")
        folder.rename(kept)
        folder.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder)
        self.addCleanup(at_end(lambda: void(run("umount", "-l", folder, check=False))))
        run("cp", "-a", f"{kept}/.", folder)

    def fill(self, path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for size in (1 << 16, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
