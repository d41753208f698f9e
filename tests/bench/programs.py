"""The programs that are measured, behind one face: how each is set up, knocked at, flooded, and asked what is open."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import re
import secrets
import signal
import subprocess
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
import spa1
from harness import BIN, Process, Service, eventually
from lab import GATEWAY, KNOCK_PORT, SERVICE_PORT, Group, Lab

# The firewall that the peers open doors in; ours makes its own. Knock ports are kept out of the connection table, as
# ours are: that is good for the peers too.
RULES = f"""*raw
-A PREROUTING -p udp -m multiport --dports {KNOCK_PORT},7000:65000 -j CT --notrack
COMMIT
*filter
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
{{allow}}-A INPUT -p udp --dport {SERVICE_PORT} -j DROP
COMMIT
"""
ALLOW_SET = f"-A INPUT -p udp --dport {SERVICE_PORT} -m set --match-set doors src -j ACCEPT\n"
POOL = 4096
Packets = list[tuple[int, bytes]]


class Program(ABC):
    """One daemon in one configuration."""

    label: str
    junk_port = KNOCK_PORT
    most_burst = 240
    # As many packets a second as it takes for sure, to measure what each costs.
    steady_rate = 20_000
    # Where what no real knock needs is told apart: a peer without keys has no third kind of junk.
    kinds: tuple[str, ...] = ("random", "right length", "right tag")

    def __init__(self, lab: Lab, clients: int = 1, remembered: int = 0, door_s: int = 4) -> None:
        # `door_s`: for how long doors open, where that is not said by the knock.
        self.lab, self.clients, self.remembered, self.door_s = lab, clients, remembered, door_s
        self.group = Group()
        # Processor time a second of the idle daemon, to be taken off what it needs while it works.
        self.idle_cpu = 0.0
        self.daemon: Process | None = None
        self.home = lab.folder / "home"
        self.home.mkdir()
        self.dice = random.Random(1)

    @abstractmethod
    def start(self) -> None:
        """Sets it up and runs it; returns when it captures."""

    @abstractmethod
    def knock(self, address: str, seconds: int, client: int = -1) -> Packets:
        """What opens the door for this address; of the last client unless told: where tables are walked, the worst."""

    @abstractmethod
    def client(self, address: str) -> list[str]:
        """The command line of its own client that does the same."""

    @abstractmethod
    def doors(self) -> int:
        """How many are open."""

    def knocks(self, addresses: list[str], seconds: int) -> list[Packets]:
        return [self.knock(address, seconds, number % self.clients) for number, address in enumerate(addresses)]

    def junk(self, kind: str) -> list[bytes]:
        """Payloads: "random" ones that no knock's length has, then such that get further."""
        if kind == "random":
            return [self.dice.randbytes(self.dice.randint(1, 120)) for _ in range(POOL)]
        return self.plausible() if kind == "right length" else self.tagged()

    @abstractmethod
    def plausible(self) -> list[bytes]:
        """Random octets of a knock's length and alphabet."""

    def tagged(self) -> list[bytes]:
        """What a holder of the HMAC key can make without being a client."""
        return []

    def run(self, *argv: str | Path) -> None:
        self.daemon = Process(self.group.argv(*self.lab.gateway.argv(*argv)))

    def alive(self) -> bool:
        return bool(self.daemon and self.daemon.process.poll() is None)

    def stop(self) -> None:
        if self.daemon:
            self.daemon.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.process.wait(5)
        # Before its output is read to the end: sleeping children hold that open too.
        self.group.remove()
        if self.daemon:
            self.daemon.end()


# Ours


class Spa(Program):
    label = "spa"
    most_burst = 2000

    def __init__(self, lab: Lab, clients: int = 1, knockers: int = 1, **settings: int) -> None:
        super().__init__(lab, clients, **settings)
        self.knockers = knockers
        service = Service("echo", [f"udp/{SERVICE_PORT}"])
        self.gateway = harness.Gateway(lab.network, harness.server_toml(service))
        self.keys = {number: harness.fresh_keys(self.gateway) for number in self.own_keys()}
        self.write_clients()

    def own_keys(self) -> list[int]:
        """Who knocks: the first ones, and the last."""
        return [*range(self.knockers), self.clients - 1]

    def write_clients(self) -> None:
        folder = self.gateway.dir / "clients.d"
        for number in range(self.clients):
            keys = self.keys.get(number)
            # Those who never knock need no private key: any octets below 2^255 - 19 are a public one.
            public = keys.public if keys else secrets.token_bytes(31) + b"\0"
            psk = keys.psk if keys else secrets.token_bytes(32)
            lines = (
                f'public-key = "{spa1.to_base64(public)}"\npsk = "{spa1.to_base64(psk)}"\nservices = ["echo"]\n'
                'address = "any"\n'
            )
            with os.fdopen(os.open(folder / f"client{number}.toml", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(lines)

    def start(self) -> None:
        if self.remembered:
            harness.run(BIN / "remember", self.gateway.dir, str(self.remembered // self.clients))
        argv = self.lab.gateway.argv(BIN / "spa-server", "run", "--dir", self.gateway.dir)
        self.daemon = self.gateway.daemon = Process(self.group.argv(*argv))
        self.gateway.wait_ready(120)

    def enroll(self) -> None:
        """Makes the profile of its own client."""
        invite = self.gateway.invite("own", "echo")
        argv = ["env", f"SPA_CONFIG_DIR={self.home}", str(BIN / "spa-client"), "enroll", "--profile", "gw"]
        self.lab.friend.run(*argv, "--host", GATEWAY, invite, check=False)
        eventually(lambda: "own.toml" in os.listdir(self.gateway.dir / "clients.d"), 10, "enrolled")

    def knock(self, address: str, seconds: int, client: int = -1) -> Packets:
        keys = self.keys[client % self.clients]
        fields = {"timestamp": spa1.timestamp_now(), "address": address, "duration": seconds}
        return [(KNOCK_PORT, spa1.seal(keys, spa1.service_payload(spa1.OPEN, ["echo"], **fields)))]

    def knocks(self, addresses: list[str], seconds: int) -> list[Packets]:
        """Thousands are sealed by spa-proto: Python would take ten seconds for them."""
        pairs = ((address, self.keys[number % self.knockers]) for number, address in enumerate(addresses))
        lines = [f"{self.gateway.public.hex()} {self.gateway.hmac_key.hex()} echo {seconds}"]
        lines += [f"{keys.private.hex()} {keys.psk.hex()} {address}" for address, keys in pairs]
        sealed = harness.run(BIN / "seal", stdin="\n".join(lines)).stdout.split()
        return [[(KNOCK_PORT, bytes.fromhex(line))] for line in sealed]

    def client(self, address: str) -> list[str]:
        return [str(BIN / "spa-client"), "open", "gw", "echo", "--address", address, "--once"]

    def doors(self) -> int:
        return ipset_entries(self.lab, "spa4-echo")

    def plausible(self) -> list[bytes]:
        return [self.dice.randbytes(self.dice.randint(288, 512)) for _ in range(POOL)]

    def tagged(self) -> list[bytes]:
        stranger = harness.fresh_keys(self.gateway)
        payload = spa1.service_payload(spa1.OPEN, ["echo"], timestamp=spa1.timestamp_now())
        return [spa1.seal(stranger, payload) for _ in range(128)]

    def judged(self) -> dict[str, int]:
        """What its own counters say."""
        status = self.gateway.status()
        accepted = sum(status["accepted"].values())
        return {**status["dropped"], "judged": sum(status["refused"].values()) + accepted}


def ipset_entries(lab: Lab, name: str) -> int:
    text = lab.gateway.run("ipset", "list", "-t", name, check=False).stdout
    found = re.search(r"Number of entries: (\d+)", text)
    return int(found[1]) if found else 0


# fwknop


class Fwknop(Program):
    label = "fwknopd"
    # A hundred packets, then a pause of 0.1 s.
    steady_rate = 800
    settings = ""
    options: tuple[str, ...] = ()
    opens = f"OPEN_PORTS udp/{SERVICE_PORT}\n"
    allow = ""

    def __init__(self, lab: Lab, clients: int = 1, **settings: int) -> None:
        super().__init__(lab, clients, **settings)
        self.folder = lab.folder / "fwknop"
        self.folder.mkdir(mode=0o700)
        self.keys = [[base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2)] for _ in range(clients)]

    def start(self) -> None:
        self.lab.gateway.run("iptables-restore", stdin=RULES.format(allow=self.allow))
        stanzas = (
            f"SOURCE ANY\n{self.opens}REQUIRE_SOURCE_ADDRESS Y\nKEY_BASE64 {key}\nHMAC_KEY_BASE64 {hmac}\n"
            for key, hmac in self.keys
        )
        self.write("access.conf", "\n".join(stanzas))
        self.write("fwknopd.conf", "PCAP_INTF friend0;\nPCAP_FILTER udp port 62201;\n" + self.settings)
        if self.remembered:
            self.write("digest.cache", "".join(digest_line() for _ in range(self.remembered)))
        places = ["-r", self.folder / "run", "-p", self.folder / "pid", "-d", self.folder / "digest.cache"]
        self.run("fwknopd", "-f", "-c", self.folder / "fwknopd.conf", "-a", self.folder / "access.conf",
                 *map(str, places), *self.options)  # fmt: skip
        eventually(self.is_ready, 120, "fwknopd captures")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)

    def is_ready(self) -> bool:
        if not self.alive():
            raise AssertionError(f"fwknopd ended: {self.daemon.text() if self.daemon else ''}")
        assert self.daemon
        return "main event loop" in self.daemon.text() or "UDP server" in self.daemon.text()

    def knock(self, address: str, seconds: int, client: int = -1) -> Packets:
        return [(KNOCK_PORT, self.packet(*self.keys[client], address, seconds))]

    def knocks(self, addresses: list[str], seconds: int) -> list[Packets]:
        with ThreadPoolExecutor(2) as pool:
            clients = [number % self.clients for number in range(len(addresses))]
            return list(pool.map(lambda at: self.knock(addresses[at], seconds, clients[at]), range(len(addresses))))

    def packet(self, key: str, hmac: str, address: str, seconds: int) -> bytes:
        """What fwknop would send."""
        file = self.home / f"packet-{secrets.token_hex(8)}"
        options = ["-T", "-B", str(file), "-f", str(seconds)]
        argv = [*self.argv(key, hmac, address), *options]
        harness.run(*argv, env={"HOME": str(self.home), "PATH": os.environ["PATH"]})
        packet = file.read_bytes().strip()
        file.unlink()
        return packet

    def argv(self, key: str, hmac: str, address: str) -> list[str]:
        keys = ["--use-hmac", "--key-base64-rijndael", key, "--key-base64-hmac", hmac, "--no-save-args"]
        return ["fwknop", "-A", f"udp/{SERVICE_PORT}", "-a", address, "-D", GATEWAY, *keys]

    def client(self, address: str) -> list[str]:
        return self.argv(*self.keys[-1], address)

    def doors(self) -> int:
        return rules(self.lab, "FWKNOP_INPUT")

    def plausible(self) -> list[bytes]:
        length = len(self.packet(*self.keys[-1], GATEWAY, 4))
        letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        return [bytes(self.dice.choices(letters, k=length)) for _ in range(POOL)]

    def tagged(self) -> list[bytes]:
        wrong = base64.b64encode(secrets.token_bytes(32)).decode()
        return [self.packet(wrong, self.keys[-1][1], GATEWAY, 4) for _ in range(32)]


class FwknopTuned(Fwknop):
    label = "fwknopd tuned"
    steady_rate = 20_000
    settings = "PCAP_DISPATCH_COUNT 10000;\nPCAP_LOOP_SLEEP 1;\n"


class FwknopUdp(Fwknop):
    label = "fwknopd -U"
    steady_rate = 20_000
    options = ("-U",)


class FwknopBest(FwknopUdp):
    """Without iptables: one ipset command for each door, whose end the kernel keeps."""

    label = "fwknopd -U, ipset"
    opens = (
        f"OPEN_PORTS udp/{SERVICE_PORT}\nCMD_CYCLE_OPEN /usr/sbin/ipset add doors $SRC timeout $CLIENT_TIMEOUT -exist\n"
        "CMD_CYCLE_CLOSE NONE\n"
    )
    allow = ALLOW_SET

    def start(self) -> None:
        self.lab.gateway.run("ipset", "create", "doors", "hash:ip", "timeout", "60")
        super().start()

    def doors(self) -> int:
        return ipset_entries(self.lab, "doors")


def digest_line() -> str:
    digest = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"{digest} 17 10.77.1.2 40000 10.77.1.1 62201 1790000000\n"


def rules(lab: Lab, chain: str) -> int:
    text = lab.gateway.run("iptables", "-S", chain, check=False).stdout
    return len(re.findall(rf"^-A {chain} -s .*--dport {SERVICE_PORT} .*-j ACCEPT", text, re.MULTILINE))


# knockd


class Knockd(Program):
    label = "knockd"
    junk_port = 7000
    kinds = ("random", "right length")
    command = f"/usr/sbin/iptables -I INPUT -s %IP% -p udp --dport {SERVICE_PORT} -j ACCEPT"
    stop_command = f"/usr/sbin/iptables -D INPUT -s %IP% -p udp --dport {SERVICE_PORT} -j ACCEPT"
    allow = ""

    def sequence(self, number: int) -> tuple[int, int, int]:
        """Three ports, others for each door."""
        return 7000 + number % 10_000, 20_000 + number // 100, 40_000 + number % 100

    def start(self) -> None:
        self.lab.gateway.run("iptables-restore", stdin=RULES.format(allow=self.allow))
        doors = "\n".join(self.door(number) for number in range(self.clients))
        config = self.lab.folder / "knockd.conf"
        config.write_text(f"[options]\n logfile = {self.lab.folder}/knockd.log\n\n{doors}")
        pid = self.lab.folder / "knockd.pid"
        self.run("knockd", "-i", "friend0", "-c", config, "-p", pid)
        listening = self.lab.folder / "knockd.log"
        eventually(lambda: self.is_listening(listening), 20, "knockd listens")

    def is_listening(self, log: Path) -> bool:
        if not self.alive():
            raise AssertionError(f"knockd ended: {self.daemon.text() if self.daemon else ''}")
        return log.exists() and "starting up" in log.read_text()

    def door(self, number: int) -> str:
        first, second, third = self.sequence(number)
        ports = f"{first}:udp,{second}:udp,{third}:udp"
        head = f"[door{number}]\n sequence = {ports}\n seq_timeout = 5\n start_command = {self.command}\n"
        return head + self.door_end()

    def door_end(self) -> str:
        return f" cmd_timeout = {self.door_s}\n stop_command = {self.stop_command}\n"

    def knock(self, address: str, seconds: int, client: int = -1) -> Packets:
        return [(port, b"") for port in self.sequence(client % self.clients)]

    def client(self, address: str) -> list[str]:
        self.lab.client_source(address)
        return ["knock", "-u", GATEWAY, *map(str, self.sequence(self.clients - 1))]

    def doors(self) -> int:
        return rules(self.lab, "INPUT")

    def plausible(self) -> list[bytes]:
        return [b""] * 64


class KnockdBest(Knockd):
    """One ipset command for each door, whose end the kernel keeps."""

    label = "knockd, ipset"
    allow = ALLOW_SET

    def start(self) -> None:
        self.command = f"/usr/sbin/ipset add doors %IP% timeout {self.door_s} -exist"
        self.lab.gateway.run("ipset", "create", "doors", "hash:ip", "timeout", "60")
        super().start()

    def door_end(self) -> str:
        return ""

    def doors(self) -> int:
        return ipset_entries(self.lab, "doors")


PROGRAMS: tuple[type[Program], ...] = (Spa, Fwknop, FwknopTuned, FwknopUdp, FwknopBest, Knockd, KnockdBest)
