"""The network of one measurement, the processor time of a whole process tree, and how a door is seen to open."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
from harness import Network, Process, at_end

KNOCK_PORT = harness.KNOCK_PORT
SERVICE_PORT = 5000
GATEWAY = harness.GATEWAY[4]
CLIENT = harness.FRIEND[4]
# Where knocks come from, one address for each.
ADDRESSES = [f"10.77.1.{number}" for number in range(10, 250)]
PROBE_EVERY_S = 50e-6


class Lab:
    """A gateway and a client's host over one link, with a service behind the gateway's firewall that answers."""

    def __init__(self) -> None:
        self.network = Network()
        self.gateway, self.friend = self.network.gateway, self.network.friend
        self.folder = self.network.folder
        lines = "".join(f"addr add {address}/24 dev eth0\n" for address in ADDRESSES)
        harness.run("ip", "-n", self.friend.name, "-batch", "-", stdin=lines)
        self.hardware = self.gateway.run("cat", "/sys/class/net/friend0/address").stdout.strip()
        self.echo = self.gateway.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.echo.bind(("0.0.0.0", SERVICE_PORT))
        threading.Thread(target=answer, args=(self.echo,), daemon=True).start()

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.echo.shutdown(socket.SHUT_RDWR)
        self.echo.close()
        self.network.remove()

    def udp(self, source: str = CLIENT) -> socket.socket:
        udp = self.friend.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((source, 0))
        return udp

    def send(self, packets: list[tuple[int, bytes]], source: str = CLIENT) -> None:
        with self.udp(source) as udp:
            send_all(udp, packets)

    def received(self) -> int:
        """Packets that reached the gateway's interface."""
        return int(self.gateway.run("cat", "/sys/class/net/friend0/statistics/rx_packets").stdout)

    def flood(self, pool: list[bytes], port: int, rate: int, seconds: float) -> Process:
        """Junk from the client's side of the link; a rate of 0 is the most that this machine can."""
        payloads = self.folder / f"pool-{len(pool)}-{id(pool)}"
        payloads.write_text("".join(f"{octets.hex()}\n" for octets in pool))
        arguments = ["eth0", CLIENT, GATEWAY, str(port), self.hardware, str(rate), f"{seconds:g}"]
        command = ["sh", "-c", 'exec "$0" "$@" < ' + str(payloads), str(harness.BIN / "flood"), *arguments]
        return Process(self.friend.argv(*command))

    def client_source(self, address: str) -> None:
        """What programs on the client's host send to the gateway comes from this address."""
        harness.run("ip", "-n", self.friend.name, "route", "replace", f"{GATEWAY}/32", "dev", "eth0", "src", address)

    def until_open(self, address: str, act: Callable[[], float], seconds: float = 3) -> float | None:
        """Seconds from what `act` returns until the service answers this address; nothing when it never does."""
        with self.udp(address) as probe:
            probe.connect((GATEWAY, SERVICE_PORT))
            probe.setblocking(False)
            begun = act()
            sent: list[float] = []
            while (now := time.perf_counter()) - begun < seconds:
                sent.append(now)
                with contextlib.suppress(ConnectionRefusedError):
                    probe.send(struct.pack("!I", len(sent) - 1))
                time.sleep(PROBE_EVERY_S)
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    return max(0.0, sent[struct.unpack("!I", probe.recv(64))[0]] - begun)
        return None

    def is_open(self, address: str, seconds: float = 0.3) -> bool:
        return self.until_open(address, time.perf_counter, seconds) is not None


def answer(service: socket.socket) -> None:
    """Sends back whatever comes, until the socket is closed."""
    with contextlib.suppress(OSError):
        while True:
            octets, source = service.recvfrom(64)
            if source is None:  # shut down
                return
            service.sendto(octets, source)


def send_all(udp: socket.socket, packets: list[tuple[int, bytes]]) -> None:
    for port, octets in packets:
        # A closed port answers by ICMP, which the next call would report.
        for _ in range(2):
            with contextlib.suppress(ConnectionRefusedError):
                udp.sendto(octets, (GATEWAY, port))
                break


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        yield made
    finally:
        made.remove()


# Processor time


class Group:
    """A control group: the processor time of all that was ever started in it, whoever has waited for it."""

    number = 0

    def __init__(self) -> None:
        root = next(path for path in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")) if is_v2(path))
        Group.number += 1
        self.folder = root / f"spa-bench-{os.getpid()}-{Group.number}"
        self.folder.mkdir()
        self.remove = at_end(self._remove)

    def argv(self, *argv: str) -> list[str]:
        """Runs a command line inside."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$0" "$@"', *argv]

    def cpu_s(self) -> float:
        text = (self.folder / "cpu.stat").read_text()
        found = re.search(r"usage_usec (\d+)", text)
        assert found, text
        return int(found[1]) / 1e6

    def pids(self) -> list[int]:
        return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]

    def switches(self) -> int:
        """Context switches of all threads, so far."""
        found = 0
        for pid in self.pids():
            for status in Path(f"/proc/{pid}/task").glob("*/status"):
                with contextlib.suppress(OSError):  # ended meanwhile
                    found += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
        return found

    def memory_kb(self) -> tuple[int, int]:
        """Proportional and anonymous resident memory of all processes."""
        texts = []
        for pid in self.pids():
            with contextlib.suppress(OSError):  # ended meanwhile
                texts.append(Path(f"/proc/{pid}/smaps_rollup").read_text())
        whole, anonymous = (sum(kb(text, name) for text in texts) for name in ("Pss", "Anonymous"))
        return whole, anonymous

    def _remove(self) -> None:
        """Ends what is left inside, all of it started here, such as the sleeping children of a daemon that is gone."""
        for _ in range(50):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                return self.folder.rmdir()
            time.sleep(0.02)


def kb(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def is_v2(path: Path) -> bool:
    return (path / "cgroup.controllers").exists()


def settled_cpu(group: Group, idle: float, patience: float = 15) -> float:
    """The processor time of a group once it rises no faster than when idle: a backlog has been worked off."""
    end = time.monotonic() + patience
    before = group.cpu_s()
    while time.monotonic() < end:
        begun = time.monotonic()
        time.sleep(0.2)  # the length of the look
        now = group.cpu_s()
        if now - before < (1.3 * idle + 0.03) * (time.monotonic() - begun):
            return now
        before = now
    return before


def spawn_inside(lab: Lab, argv: list[str], home: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Starts a client on the client's host, as cheaply as a shell would; the process and when."""
    environment = {"HOME": str(home), "SPA_CONFIG_DIR": str(home), "PATH": os.environ["PATH"], "LANG": "C"}
    with lab.friend.inside():
        begun = time.perf_counter()
        null = subprocess.DEVNULL
        return subprocess.Popen(argv, env=environment, stdin=null, stdout=null, stderr=null, close_fds=False), begun
