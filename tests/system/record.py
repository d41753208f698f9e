"""Runs a first session on two hosts that are network namespaces, and draws what was typed and printed as SVG.

Every command is run as it is shown. It sees folders of its own over /etc, /var/lib, /run and /root, so that nothing of
this machine is touched and no option has to point elsewhere.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import BIN, FRIEND, GATEWAY, HOST_NAME, Host, Network, Process, eventually, root_is_locked

WIDTH = 100
DEVICE, SERVER = "anna@laptop", "root@gateway"


@dataclass
class Step:
    prompt: str
    command: str
    printed: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Machine:
    """A host with files of its own."""

    def __init__(self, host: Host, folder: Path, prompt: str) -> None:
        self.host, self.folder, self.prompt = host, folder, prompt
        folder.mkdir(mode=0o700)
        for name in ("var", "run", "root"):
            (folder / name).mkdir()
        subprocess.run(["cp", "-a", "/etc", str(folder / "etc")], check=True)
        shutil.copy(folder.parent / "hosts", folder / "etc" / "hosts")
        (folder / "run" / "sshd").mkdir()

    def argv(self, command: str) -> list[str]:
        over = {"etc": "/etc", "var": "/var/lib", "run": "/run", "root": "/root"}
        mounts = [f"mount --bind {self.folder}/{name} {place}" for name, place in over.items()]
        script = " && ".join([*mounts, f"cd /root && export HOME=/root PATH={BIN}:$PATH && {command}"])
        return ["ip", "netns", "exec", self.host.name, "sh", "-c", script]

    def run(self, command: str, shown: str = "", code: int | None = 0) -> Step:
        begun = time.monotonic()
        done = subprocess.run(self.argv(command), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
        if code is not None and done.returncode != code:
            raise SystemExit(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return Step(self.prompt, shown or command, (done.stdout + done.stderr).splitlines(), seconds)


def session(network: Network) -> list[Step]:
    gateway = Machine(network.gateway, network.folder / "gateway", SERVER)
    device = Machine(network.friend, network.folder / "device", DEVICE)
    sshd = prepare_ssh(gateway, device)
    steps = [
        gateway.run(f"spa-server init --host {HOST_NAME} --always-allow 10.77.1.9/32"),
    ]
    daemon = Process(gateway.argv("exec spa-server run"))
    begun = time.monotonic()
    eventually(lambda: daemon.out == ["ready"], 20, "ready")
    steps.append(Step(SERVER, "spa-server run &", daemon.out, time.monotonic() - begun))
    ssh = f"ssh -o ConnectTimeout=2 root@{HOST_NAME} uptime"
    steps.append(device.run(ssh, code=255))
    invited = gateway.run("spa-keys invite anna-laptop --services ssh --valid 1d")
    invite = invited.printed[0]
    short = f"{invite[:36]}..."
    steps.append(invited)
    steps.append(device.run(f"spa-client enroll {invite}", f"spa-client enroll {short}"))
    steps.append(device.run(f"spa-client ssh {HOST_NAME} -l root -- hostname -I"))
    steps.append(gateway.run("spa-server grants"))
    for process in (daemon, sshd):
        process.end()
    for step in steps:
        step.printed = [line.replace(invite, short) for line in step.printed]
    if FRIEND[4] not in "".join(steps[-1].printed) or GATEWAY[4] not in "".join(steps[-2].printed):
        raise SystemExit("the session did not go as it should")
    return steps


def prepare_ssh(gateway: Machine, device: Machine) -> Process:
    """What everybody has before spa comes: an sshd, a key, a known host."""
    gateway.run("rm -f /etc/ssh/ssh_host_* && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")
    device.run("mkdir -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    keys = gateway.folder / "root" / ".ssh"
    keys.mkdir(mode=0o700)
    shutil.copy(device.folder / "root/.ssh/id_ed25519.pub", keys / "authorized_keys")
    host_key = (gateway.folder / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    (device.folder / "root/.ssh/known_hosts").write_text(f"{HOST_NAME},{','.join(GATEWAY.values())} {host_key}")
    pam = "yes" if root_is_locked() else "no"
    sshd = Process(gateway.argv(f"exec /usr/sbin/sshd -D -e -f /dev/null -o UsePAM={pam} -o UseDNS=no"))
    eventually(lambda: network_listens(gateway.host), 10, "sshd")
    return sshd


def network_listens(host: Host) -> bool:
    return host.is_open("127.0.0.1")


# Drawing


def rows(steps: list[Step]) -> list[tuple[str, str]]:
    """Lines with the class that each is drawn in."""
    drawn: list[tuple[str, str]] = []
    for step in steps:
        mark = "#" if step.prompt == SERVER else "$"
        drawn += [("command", line) for line in wrap(f"{step.prompt} {mark} {step.command}")]
        drawn += [("printed", part) for line in step.printed for part in wrap(line)]
        drawn.append(("time", f"({step.seconds:.2f} s)"))
    return drawn


def wrap(line: str) -> list[str]:
    line = re.sub(r"[^ -~]", "?", line)
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) or [""]


def draw(steps: list[Step]) -> str:
    lines = rows(steps)
    height = 18 * len(lines) + 24
    width = 8 * WIDTH + 24
    style = (
        "text{font:13px ui-monospace,monospace;white-space:pre}"
        ".command{fill:#e6edf3;font-weight:bold}.printed{fill:#9fb1c1}.time{fill:#5f7a90}"
    )
    texts = [
        f'<text class="{kind}" x="12" y="{18 * number + 24}" xml:space="preserve">{html.escape(line)}</text>'
        for number, (kind, line) in enumerate(lines)
    ]
    return picture(width, height, "A first session: the gateway is set up, a device enrolls and gets in", style, texts)


def picture(width: int, height: int, title: str, style: str, texts: list[str]) -> str:
    """An SVG of a terminal's size and colour around these texts."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    back = f'<rect width="{width}" height="{height}" rx="6" fill="#0d1117"/>'
    return "\n".join([head, f"<title>{title}</title>", f"<style>{style}</style>", back, *texts, "</svg>", ""])


def main() -> None:
    if os.geteuid() != 0:
        raise SystemExit("needs root, for network namespaces")
    network = Network()
    try:
        steps = session(network)
    finally:
        network.remove()
    for kind, line in rows(steps):
        print(("  " if kind != "command" else "") + line)
    Path(sys.argv[1]).write_text(draw(steps))


if __name__ == "__main__":
    main()
