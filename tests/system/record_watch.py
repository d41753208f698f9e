"""Draws `spa-server status --watch` as SVG: a real daemon in network namespaces, real knocks, and what it refuses."""

from __future__ import annotations

import html
import os
import re
import sys
import time
from pathlib import Path

import harness
from harness import BIN, FRIEND, GATEWAY, STRANGER, Gateway, Network, Outside, Service, eventually, run
from record import picture

WIDTH, HEIGHT = 100, 29
# Letters are this wide, lines this high.
LETTER, LINE = 7.83, 18
WEIGHTS = {"1": "head", "2": "dim"}
COLOURS = {"31": "bad", "32": "good", "33": "warn"}


def gateway(network: Network) -> Gateway:
    services = (Service(max_duration="4h"), Service("db", ["tcp/5432"]), Service("admin", ["tcp/8443"]))
    return Gateway(network, harness.server_toml(*services)).start()


def knocks(network: Network, gateway: Gateway) -> None:
    """People who belong, one who is not allowed what he asks, one whose clock is wrong, and strangers."""
    anna, ben, carol = (
        Outside.add(gateway, name, services)
        for name, services in (("anna-laptop", ["ssh", "db"]), ("ben-phone", ["ssh"]), ("carol-tablet", ["admin"]))
    )
    friend, stranger = network.friend, network.stranger
    sent = anna.open(friend, GATEWAY[4], "ssh", "db", duration=7200)
    carol.open(friend, GATEWAY[6], "admin", duration=1260)
    ben.open(friend, GATEWAY[4], "ssh", duration=40)
    eventually(lambda: len(gateway.grants()) == 4)
    stranger.send(sent, GATEWAY[4])
    ben.open(friend, GATEWAY[4], "db")
    carol.open(friend, GATEWAY[4], "admin", offset=-190.0)
    stranger.send(bytes(20), GATEWAY[4], times=7)
    for length in (300, 640, 1100):
        stranger.send(os.urandom(length), GATEWAY[4], times=61)
    eventually(lambda: gateway.refused("tag") == 183 and gateway.refused("time"))


def screen(network: Network, gateway: Gateway) -> str:
    """The terminal after some seconds, with its control sequences."""
    socket = str(network.folder / "tmux")

    def tmux(*argv: str) -> str:
        return run("tmux", "-u", "-S", socket, *argv).stdout

    command = f"{BIN}/spa-server status --watch --dir {gateway.dir}"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), command)
    try:
        eventually(lambda: "q quits" in tmux("capture-pane", "-p"), 10, "the first picture")
        begun = time.monotonic()
        knocks(network, gateway)
        eventually(lambda: time.monotonic() - begun > 12, 20)
        return tmux("capture-pane", "-p", "-e")
    finally:
        tmux("kill-server")


def spans(line: str) -> list[tuple[str, str]]:
    """The pieces of a line, each with the class that it is drawn in."""
    pieces, weight, colour = [], "", ""
    for text, codes in re.findall(r"([^\x1b]+)|\x1b\[([0-9;]*)m", line):
        if text:
            pieces.append((colour or weight, text))
            continue
        for code in (codes or "0").split(";"):
            if code in ("0", "00"):
                weight = colour = ""
            elif code in ("22", "39"):
                weight, colour = ("", colour) if code == "22" else (weight, "")
            elif code in WEIGHTS:
                weight = WEIGHTS[code]
            else:
                colour = COLOURS.get(code, colour)
    return pieces


def draw(screen: str) -> str:
    lines = screen.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    width, height = round(LETTER * WIDTH) + 24, LINE * len(lines) + 24
    style = (
        "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;fill:#c9d5e0}"
        ".head{fill:#ffffff;font-weight:bold}.dim{fill:#7d8fa1}.good{fill:#56d364}.warn{fill:#e3b341}"
        ".bad{fill:#ff7b72;font-weight:bold}"
    )
    texts = []
    for number, line in enumerate(lines):
        column = 0
        for kind, text in spans(line):
            place = f'x="{12 + LETTER * column:.1f}" y="{LINE * number + 24}"'
            length = f'textLength="{LETTER * len(text):.1f}" lengthAdjust="spacingAndGlyphs"'
            if text.strip():
                texts.append(f'<text class="{kind}" {place} {length} xml:space="preserve">{html.escape(text)}</text>')
            column += len(text)
    return picture(
        width, height, "spa-server status --watch: open doors, knocks of the last minute, last events", style, texts
    )


def main() -> None:
    if os.geteuid() != 0:
        raise SystemExit("needs root, for network namespaces")
    network = Network()
    try:
        host = gateway(network)
        try:
            shown = screen(network, host)
        finally:
            host.remove()
    finally:
        network.remove()
    for part in ("OPEN DOORS 4", FRIEND[4], STRANGER[4], "refused  tag", "ben-phone: policy"):
        if part not in re.sub(r"\x1b\[[0-9;]*m", "", shown):
            raise SystemExit(f"{part!r} is not on the screen:\n{shown}")
    print(shown)
    Path(sys.argv[1]).write_text(draw(shown))


if __name__ == "__main__":
    main()
