#!/usr/bin/env python3
"""Measures spa beside fwknop and knockd, in one run on one machine. To be started by scripts/bench.sh."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))

import aims  # noqa: E402
import machine  # noqa: E402
import page  # noqa: E402
import parts  # noqa: E402
from lab import lab  # noqa: E402
from parts import QUICK, Numbers, Plan  # noqa: E402
from programs import PROGRAMS, Fwknop, FwknopTuned, FwknopUdp, Knockd, Program, Spa  # noqa: E402

FLOODED: tuple[type[Program], ...] = (Spa, Fwknop, FwknopTuned, FwknopUdp, Knockd)
MANY: tuple[type[Program], ...] = (Spa, FwknopUdp, Knockd)


class Run:
    """All numbers of one run, and what went wrong in it."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.begun = plan, time.monotonic()
        self.numbers: Numbers = {"machine": machine.describe(), "findings": []}
        self.numbers |= {"programs": {}, "many": {}, "remembered": {}}
        self.failed: list[str] = []

    def part(self, name: str, measure: Callable[[], Any], may_fail: bool = False) -> Any:
        """What `measure` gives; when it fails that is kept, and the run goes on. What may fail is a finding."""
        begun = time.monotonic()
        try:
            result = measure()
        except Exception as error:
            said = f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            (self.numbers["findings"] if may_fail else self.failed).append(said)
            if not may_fail:
                traceback.print_exc()
            result = None
        took, whole = time.monotonic() - begun, time.monotonic() - self.begun
        print(f"{whole:6.1f} s  {name} ({took:.1f} s){'  FAILED' if result is None else ''}", flush=True)
        return result

    @contextmanager
    def running(self, kind: type[Program], name: str, **settings: int) -> Iterator[Program | None]:
        """A program that runs in a network of its own; nothing when it cannot be started."""
        settings = {"door_s": self.plan.door_s, **settings}
        # Whether another's daemon comes up with ten thousand clients is for us to find, not to mend.
        may_fail = kind is not Spa and settings.get("clients", 1) > 1
        with lab() as made:
            program = self.part(f"{name}: set up", lambda: kind(made, **settings))
            started = program and self.part(f"{name}: start", lambda: program.start() or True, may_fail)
            try:
                yield program if started else None
            finally:
                if program:
                    program.stop()

    # Parts

    def limits(self) -> None:
        with lab() as made:
            self.numbers["fsync_us"] = self.part("a bare fsync", lambda: parts.fsync_us(made.folder))
        with self.running(Spa, "the most junk") as program:
            if isinstance(program, Spa):
                most = self.part("the most junk, and a loop that counts", lambda: parts.most_junk(program, self.plan))
                self.numbers["most_junk"] = most

    def criterion(self) -> None:
        if self.plan.criterion_s:
            figures = self.part("criterion", lambda: parts.criterion(self.plan, ROOT))
            self.numbers["criterion_us"] = figures or {}

    def one(self, kind: type[Program]) -> None:
        """Everything about one program with one client, and then a burst from many."""
        found: Numbers = {}
        self.numbers["programs"][kind.label] = found
        plan, label = self.plan, kind.label
        with self.running(kind, label) as program:
            for measure in (parts.idle, parts.packet_to_open, parts.client_start) if program else ():
                name = f"{label}: {measure.__name__.replace('_', ' ')}"
                found.update(self.part(name, lambda measure=measure: measure(program, plan)) or {})
        if kind in FLOODED:
            with self.running(kind, f"{label}, flooded", door_s=60) as program:
                if program:
                    program.idle_cpu = found.get("idle_cpu", 0.0)
                    self.flooded(program, found)
        self.bursts(kind, found)

    def flooded(self, program: Program, found: Numbers) -> None:
        found["junk_us"] = {}
        # What a daemon that polls needs for a packet cannot be told from its polling.
        for kind in program.kinds if program.idle_cpu < aims.POLLS else ():
            name = f"{program.label}: processor time of junk, {kind}"
            found["junk_us"][kind] = self.part(name, lambda kind=kind: parts.junk_cpu(program, kind, self.plan))
        found["floods"] = []
        for rate in self.plan.rates:
            name = f"{program.label}: knocks under {rate or 'the most'} packets/s"
            result = self.part(name, lambda rate=rate: parts.knocks_under(program, rate, self.plan))
            if result:
                found["floods"].append(result)

    def bursts(self, kind: type[Program], found: Numbers) -> None:
        """All at once; and for ours also the rate that it is to bear without loss."""
        clients = min(1000, self.plan.burst)
        settings = {"clients": clients, "knockers": clients} if kind is Spa else {}
        paces = {"burst": 1e9, **({"paced": 2000.0} if kind is Spa else {})}
        for name, rate in paces.items():
            with self.running(kind, f"{kind.label}: {name}", **settings, door_s=60) as program:
                if program:
                    measure = lambda program=program, rate=rate: parts.burst(program, rate, self.plan)  # noqa: E731
                    found[name] = self.part(f"{kind.label}: {name}", measure)

    def many(self, kind: type[Program]) -> None:
        """The same with many clients: junk, a knock of the last one, memory."""
        rows = self.numbers["many"].setdefault(kind.label, {})
        sizes = self.plan.clients + (self.plan.ours_too if kind is Spa else ())
        for clients in sizes:
            rows[str(clients)] = self.crowd(kind, f"{kind.label}, {clients} clients", clients=clients)

    def remembered(self, kind: type[Program]) -> None:
        """With many packets remembered against replay; a client of ours has 250 of them at most."""
        count = self.plan.remembered
        clients = count // 250 if kind is Spa else 1
        name = f"{kind.label}, {count} remembered"
        self.numbers["remembered"][kind.label] = self.crowd(kind, name, clients=clients, remembered=count)

    def crowd(self, kind: type[Program], name: str, **settings: int) -> Numbers:
        found: Numbers = {}
        with self.running(kind, name, **settings) as program:
            if program:
                found["memory_kb"] = program.group.memory_kb()[0]
                program.idle_cpu = self.numbers["programs"].get(kind.label, {}).get("idle_cpu", 0.0)
                measure = lambda: parts.junk_cpu(program, "right length", self.plan)  # noqa: E731
                found["junk_us"] = self.part(f"{name}: junk", measure)
                fewer = replace(self.plan, trials=min(self.plan.trials, 20))
                found.update(self.part(f"{name}: knocks", lambda: parts.packet_to_open(program, fewer)) or {})
        return found


def main() -> int:
    options = parse_arguments()
    if options.page_from:
        run = Run(QUICK)
        run.numbers = json.loads(options.page_from.read_text())
    else:
        run = Run(QUICK if options.quick else Plan())
        measure_all(run)
    run.numbers["aims"] = aims.judge(run.numbers)
    run.numbers["failed"] = run.failed or run.numbers.get("failed", [])
    print("\n" + page.text(run.numbers))
    if options.out:
        page.write(run.numbers, options.out)
        print(f"written: {options.out}/performance.md and {options.out}/performance/")
    for line in run.failed:
        print(f"failed: {line}")
    return 1 if run.failed else 0


def measure_all(run: Run) -> None:
    begun = time.monotonic()
    run.limits()
    for kind in PROGRAMS:
        run.one(kind)
    for kind in MANY:
        run.many(kind)
    for kind in (Spa, FwknopUdp):
        run.remembered(kind)
    run.criterion()
    run.numbers["took_s"] = time.monotonic() - begun


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two, to see that everything works")
    parser.add_argument("--out", type=Path, help="the folder to write performance.md and performance/ into")
    parser.add_argument("--page-from", type=Path, metavar="FILE", help="measure nothing: write the page of this run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
