"""Each kind of door for the same scenarios: how it is configured, what stands around it, and what it holds open."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from harness import ADMIN, FRIEND, NO_IPSET, Gateway, Network, Sshd, run

IPTABLES = {4: "iptables", 6: "ip6tables"}
# As in nftables' examples: everything is dropped that is not let in.
HOST_NFT = """
table inet filter {
    set blocklist { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto ipv6-icmp accept
        tcp dport { 1, 9 } reject with tcp reset
    }
}
table ip nat { chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/8 masquerade; }; }
"""


class Kind:
    """A host whose port 22 is one backend's; `prepare` comes before the gateway and sshd, and changes the host only."""

    backend = "iptables"
    # The kernel ends a door; else the daemon does, its next start, or close-overdue.
    ends_itself = True
    # A stop with keep-doors leaves the door open.
    keeps_doors = True
    wrapper: tuple[str, ...] = ()
    more_toml = ""
    service = 'ports = ["tcp/22"]\nprotect = true\n'

    def __init__(self, network: Network) -> None:
        self.network, self.host = network, network.gateway
        self.bind: dict[str, Path] = {}
        self.prepare()

    def prepare(self) -> None:
        """What stands on the host before."""

    def toml(self, name: str = "ssh", keep_doors: bool = True, more: str = "") -> str:
        return (
            f'[gateway]\nhost = "gateway.test"\n[lock-out]\nalways-allow = ["{ADMIN[4]}", "{ADMIN[6]}"]\n'
            f"keep-doors = {json.dumps(keep_doors)}\n{self.more_toml}"
            f'[[service]]\nname = "{name}"\nbackends = ["{self.backend}"]\n{self.service}{more}'
        )

    def make_gateway(self) -> Gateway:
        gateway = Gateway(self.network, self.toml())
        gateway.wrapper, gateway.bind = self.wrapper, self.bind
        self.dir = gateway.dir
        return gateway

    def make_sshd(self) -> Sshd:
        return Sshd(self.network, self.bind)

    def sh(self, script: str) -> str:
        return self.host.run("sh", "-ec", script).stdout

    def held(self, family: int, address: str | None = None) -> list[str]:
        """What lets an address in, one entry for each time: Friend's unless another is named."""
        text = self.listed(family)
        return re.findall(rf"(?<![\w:.]){re.escape(address or FRIEND[family])}(?![\w:.])", text)

    def listed(self, family: int) -> str:
        """All doors of a family, as text."""
        raise NotImplementedError


class Ipset(Kind):
    def listed(self, family: int) -> str:
        return self.host.run("ipset", "save", f"spa{family}-ssh", check=False).stdout


class Rules(Kind):
    """iptables on a host without ipset."""

    ends_itself = False
    wrapper = NO_IPSET

    def listed(self, family: int) -> str:
        return self.host.run(IPTABLES[family], "-S", "SPA-ssh", check=False).stdout


class Nftables(Kind):
    backend = "nftables"
    table = "spa"

    def listed(self, family: int) -> str:
        found = self.host.run("nft", "-j", "list", "table", "inet", self.table, check=False).stdout
        sets = [item["set"] for item in json.loads(found or "{}").get("nftables", []) if "set" in item]
        own = [entry for entry in sets if entry["name"] == f"spa{family}-ssh"]
        return "\n".join(element["elem"]["val"] for entry in own for element in entry.get("elem", []))


class NamedTable(Nftables):
    """nftables in a table and chain of the host's own, which drops."""

    table = "filter"
    more_toml = '[nftables]\ntable = "inet filter"\nchain = "input"\n'

    def prepare(self) -> None:
        self.host.run("nft", "-f", "-", stdin=HOST_NFT)


class Wrappers(Kind):
    """Debian's sshd, which asks libwrap; it, the gateway and tcpdmatch see an /etc of their own, a copy."""

    backend = "tcp-wrappers"
    ends_itself = False
    service = 'daemon = "sshd"\nports = ["tcp/22"]\n'
    allow = "# somebody's\r\nftpd: ALL\nin.telnetd: 10.0.0.0/8, \\\n  [fd77:9::]/32\n"
    deny = "# mine\nALL: ALL\n"

    def prepare(self) -> None:
        self.etc = self.network.folder / "etc"
        shutil.copytree("/etc", self.etc, symlinks=True)
        shutil.copy(self.network.folder / "hosts", self.etc / "hosts")
        for name, text, mode in (("hosts.allow", self.allow, 0o604), ("hosts.deny", self.deny, 0o640)):
            (self.etc / name).unlink(missing_ok=True)
            (self.etc / name).write_bytes(text.encode())
            (self.etc / name).chmod(mode)
        self.bind = {"/etc": self.etc}

    def listed(self, family: int) -> str:
        file = self.dir / "run" / "wrappers" / "sshd"
        return re.sub(r"[\[\]]", " ", file.read_text()) if file.exists() else ""


class Command(Kind):
    """A person's own script, which keeps a chain of its own behind a drop of its own."""

    backend = "command"
    ends_itself = False
    keeps_doors = False

    def prepare(self) -> None:
        for tool in IPTABLES.values():
            self.sh(
                f"{tool} -N MINE; {tool} -A INPUT -i lo -j ACCEPT;"
                f"{tool} -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT;"
                f"{tool} -A INPUT -p tcp --dport 22 -j MINE; {tool} -A INPUT -p tcp --dport 22 -j DROP"
            )
        script = self.network.folder / "door"
        cases = "".join(
            f"{verb}{family}) exec /usr/sbin/{tool} {option} MINE -s $3 -j ACCEPT;;\n"
            for family, tool in IPTABLES.items()
            for verb, option in (("up", "-A"), ("down", "-D"))
        )
        script.write_text(f"#!/bin/sh\ncase $1$2 in\n{cases}esac\n")
        script.chmod(0o755)
        call = [[str(script), verb, "{family}", "{address}"] for verb in ("up", "down")]
        self.service = f"open = {json.dumps(call[0])}\nclose = {json.dumps(call[1])}\n"

    def listed(self, family: int) -> str:
        return self.host.run(IPTABLES[family], "-S", "MINE").stdout


ALL: tuple[type[Kind], ...] = (Ipset, Rules, Nftables, NamedTable, Wrappers, Command)


def missing() -> str | None:
    """Why the real sshd cannot be asked about libwrap, if so."""
    if "libwrap.so.0" not in run("ldd", "/usr/sbin/sshd").stdout:
        return "sshd is not linked with libwrap"
    return None
