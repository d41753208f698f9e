"""What is measured. Each function takes a running program and gives plain numbers; none keeps anything."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness import BIN, Process, eventually
from lab import ADDRESSES, CLIENT, KNOCK_PORT, Lab, send_all, settled_cpu, spawn_inside
from programs import Packets, Program, Spa

Numbers = dict[str, Any]
KNOCKS = 20
# One client may send ten datagrams a second.
PACE_S = 0.11
# But fifty at once.
QUICK_PACE_S = 0.06
# A measurement of processor time is of at least so much, or of so many packets.
ENOUGH_S = 0.25


@dataclass(frozen=True)
class Plan:
    """How long everything takes."""

    trials: int = 40
    # For how long doors open, so that their ends are measured too.
    door_s: int = 4
    starts: int = 20
    idle_s: float = 5
    flood_s: float = 3
    most_junk: int = 60_000
    rates: tuple[int, ...] = (10_000, 50_000, 100_000, 200_000, 0)
    clients: tuple[int, ...] = (1, 100, 1_000, 10_000)
    ours_too: tuple[int, ...] = (100_000,)
    remembered: int = 100_000
    # How many knocks ours gets at once, at most.
    burst: int = 2000
    # Seconds that criterion takes for each of its figures; 0 leaves it out, since it would have to be built.
    criterion_s: float = 3


QUICK = Plan(
    trials=4, door_s=1, starts=3, idle_s=0.5, flood_s=0.5, most_junk=400, rates=(10_000, 0), clients=(1, 100),
    ours_too=(), remembered=5_000, burst=60, criterion_s=0,
)  # fmt: skip


# One program


def idle(program: Program, plan: Plan) -> Numbers:
    """Nobody knocks: wake-ups, processor time, memory."""
    switches, cpu, begun = program.group.switches(), program.group.cpu_s(), time.monotonic()
    time.sleep(plan.idle_s)  # the length of the measurement
    took = time.monotonic() - begun
    whole, anonymous = program.group.memory_kb()
    program.idle_cpu = (program.group.cpu_s() - cpu) / took
    return {
        "wakeups_per_s": (program.group.switches() - switches) / took,
        "idle_cpu": program.idle_cpu,
        "memory_kb": whole,
        "anonymous_kb": anonymous,
    }


def packet_to_open(program: Program, plan: Plan) -> Numbers:
    """From the last packet's sending to the first answer of the service; processor time of grants and their ends."""
    addresses = ADDRESSES[: plan.trials]
    begun, cpu = time.monotonic(), program.group.cpu_s()
    took = []
    for address in addresses:
        packets = program.knock(address, program.door_s)
        took.append(program.lab.until_open(address, lambda at=address, all=packets: sent(program.lab, at, all)))
        time.sleep(PACE_S)
    eventually(lambda: program.doors() == 0, 20, "doors ended")
    cpu = program.group.cpu_s() - cpu
    opened = [each for each in took if each is not None]
    return {
        "open_ms": [1000 * each for each in opened],
        "missed": len(took) - len(opened),
        "grant_cpu_s": cpu,
        "grant_wall_s": time.monotonic() - begun,
        "grants": len(opened),
    }


def sent(lab: Lab, address: str, packets: Packets) -> float:
    """Sends them; when the last one went."""
    with lab.udp(address) as udp:
        send_all(udp, packets[:-1])
        begun = time.perf_counter()
        send_all(udp, packets[-1:])
        return begun


def client_start(program: Program, plan: Plan) -> Numbers:
    """The same with the client's own start; and how long the client runs."""
    if isinstance(program, Spa):
        program.enroll()
    opened, ran = [], []
    for address in ADDRESSES[60 : 60 + plan.starts]:
        argv = program.client(address)
        started: list[subprocess.Popen[bytes]] = []

        def start(argv: list[str] = argv, started: list[subprocess.Popen[bytes]] = started) -> float:
            process, begun = spawn_inside(program.lab, argv, program.home)
            started.append(process)
            return begun

        opened.append(program.lab.until_open(address, start))
        started[0].wait(10)
        process, begun = spawn_inside(program.lab, argv, program.home)
        process.wait(10)
        ran.append(time.perf_counter() - begun)
        time.sleep(PACE_S)
    return {"start_open_ms": [1000 * each for each in opened if each is not None], "client_ms": [1000 * r for r in ran]}


def junk_cpu(program: Program, kind: str, plan: Plan) -> float:
    """Processor time of one junk packet, in µs: more and more packets until there is enough of it to be measured."""
    pool, count, begun = program.junk(kind), 20, time.monotonic()
    most = min(plan.most_junk, 3 * program.steady_rate)
    while True:
        cpu, arrived = junk_once(program, pool, count)
        if cpu >= ENOUGH_S or count >= most or time.monotonic() - begun > 8:
            return 1e6 * cpu / max(1, arrived)
        count = min(most, max(8 * count, int(count * ENOUGH_S / max(cpu, 1e-4))))


def junk_once(program: Program, pool: list[bytes], count: int) -> tuple[float, int]:
    """Processor time of so many, without what the idle daemon needs in that time; how many arrived."""
    group, idle = program.group, program.idle_cpu
    before, first, begun = settled_cpu(group, idle), program.lab.received(), time.monotonic()
    rate = min(program.steady_rate, max(50, 2 * count))
    junk = program.lab.flood(pool, program.junk_port, rate, count / rate)
    junk.wait(60)
    junk.end()
    cpu = settled_cpu(group, idle) - before - idle * (time.monotonic() - begun)
    return max(0.0, cpu), program.lab.received() - first


def knocks_under(program: Program, rate: int, plan: Plan) -> Numbers:
    """How many of twenty knocks, one datagram each, work while junk comes; a rate of 0 is the most there can be."""
    lab, kind = program.lab, "right length"
    addresses = ADDRESSES[100 : 100 + KNOCKS]
    knocks = program.knocks(addresses, 20)
    junk = lab.flood(program.junk(kind), program.junk_port, rate, KNOCKS * QUICK_PACE_S + 1.5)
    first, begun = lab.received(), time.monotonic()
    time.sleep(0.5)  # the flood has begun
    for address, packets in zip(addresses, knocks, strict=True):
        lab.send(packets, address)
        time.sleep(QUICK_PACE_S)
    took, arrived = time.monotonic() - begun, lab.received() - first
    junk.wait(30)
    junk.end()
    opened = [lab.is_open(address, 0.1) for address in addresses]
    return {"rate": rate, "reached": arrived / took, "worked": sum(opened)}


def burst(program: Program, rate: float, plan: Plan) -> Numbers:
    """Many knocks at once, each for another address, from as many clients as there are."""
    count = min(program.most_burst, plan.burst)
    ours = isinstance(program, Spa)
    addresses = [f"100.64.{number // 250}.{number % 250 + 1}" for number in range(count)] if ours else ADDRESSES[:count]
    knocks = program.knocks(addresses, 60)
    sockets = [program.lab.udp(address) for address in ([CLIENT] if ours else addresses)]
    before = program.doors()
    begun = time.perf_counter()
    for number, packets in enumerate(knocks):
        while time.perf_counter() - begun < number / rate:
            time.sleep(0.0002)
        send_all(sockets[number % len(sockets)], packets)
    sending = time.perf_counter() - begun
    most, at = 0, sending
    while time.perf_counter() - begun < at + 2 and most < count:
        time.sleep(0.02 if ours else 0.2)
        if (now := program.doors() - before) > most:
            most, at = now, time.perf_counter() - begun
    for udp in sockets:
        udp.close()
    return {"sent": count, "opened": most, "sending_s": sending, "took_s": at, "grants_per_s": most / at}


# The limits


def fsync_us(folder: Path) -> float:
    """The median of a bare fsync of a page, where the record lies."""
    took = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(took)


def most_junk(program: Spa, plan: Plan) -> Numbers:
    """Junk of a knock's length, as much as there can be: what spa judges, then what a loop counts that does nothing."""
    lab, pool = program.lab, program.junk("right length")
    before, first = program.judged(), lab.received()
    flood_s, arrived = run_flood(lab, pool, plan), lab.received() - first
    settled_cpu(program.group, program.idle_cpu)
    after = program.judged()
    grown = {name: after[name] - before[name] for name in after}
    program.stop()  # its rules stay, so the loop has the same firewall behind it
    counted = count_loop(lab, pool, plan)
    ours = {"arrived": arrived, "judged": grown["judged"], "dropped": max(0, arrived - grown["judged"])}
    return {"ours": {**ours, "per_s": grown["judged"] / flood_s, "kernel": grown["kernel"]}, "loop": counted}


def run_flood(lab: Lab, pool: list[bytes], plan: Plan) -> float:
    """The most junk that there can be; how long it took."""
    flood = lab.flood(pool, KNOCK_PORT, 0, plan.flood_s)
    flood.wait(30)
    return float(flood.out[-1].split()[3])


def count_loop(lab: Lab, pool: list[bytes], plan: Plan) -> Numbers:
    loop = Process(lab.gateway.argv(BIN / "count", "any", str(KNOCK_PORT), f"{plan.flood_s + 1.5:g}"))
    eventually(lambda: "ready" in loop.out, 5, "the counting loop captures")
    first = lab.received()
    flood_s, arrived = run_flood(lab, pool, plan), lab.received() - first
    loop.wait(30)
    packets, dropped, cpu_ns, _ = map(int, loop.out[-1].split())
    loop.end()
    rate = packets / flood_s
    return {"arrived": arrived, "counted": packets, "dropped": dropped, "per_s": rate, "cpu_us": cpu_ns / packets / 1e3}


def criterion(plan: Plan, root: Path, run: Callable[..., Any] = harness.run) -> Numbers:
    """spa-proto's own benchmark: a bare X25519, and a knock's judgement among 1 to 1,000,000 clients; in µs."""
    options = ["--warm-up-time", "0.3", "--measurement-time", f"{plan.criterion_s:g}", "--sample-size", "20"]
    argv = ["cargo", "bench", "-q", "-p", "spa-proto", "--bench", "gateway", "--", *options]
    text = run(*argv, "bare|through|junk at step 2", cwd=root, timeout=900).stdout
    return {name: value for name, value in read_criterion(text)}


def read_criterion(text: str) -> list[tuple[str, float]]:
    """The middle one of criterion's three figures, by the benchmark's name."""
    units = {"ns": 1e-3, "µs": 1.0, "ms": 1e3, "s": 1e6}
    found, name = [], ""
    for line in text.splitlines():
        head, mark, times = line.partition("time:")
        name = head.strip() or name
        if mark:
            words = times.strip(" []").split()
            found.append((name, float(words[2]) * units[words[3]]))
        elif line and not line.startswith(" "):
            name = line.strip()
    return found
