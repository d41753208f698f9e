"""Numbers → the tables that are printed, docs/performance.md by its template, and the plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aims
import plot

Numbers = dict[str, Any]
TEMPLATE = Path(__file__).with_name("performance.md.in")
NOTHING = "–"
MARKS = ("<!-- figures: written by scripts/bench.sh -->", "<!-- end of figures -->")
IN_SHORT = ("spa", "fwknopd", "fwknopd tuned", "fwknopd -U", "knockd")


def text(numbers: Numbers) -> str:
    """For the terminal: the tables below each other."""
    return "\n\n".join(f"{name}\n{table}" for name, table in tables(numbers).items())


def write(numbers: Numbers, out: Path) -> None:
    folder = out / "performance"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(numbers, indent=1) + "\n")
    for name, picture in plot.all_plots(numbers).items():
        (folder / f"{name}.svg").write_text(picture)
    page = TEMPLATE.read_text()
    fields = {**tables(numbers), **numbers["machine"], "took": f"{numbers.get('took_s', 0) / 60:.0f}"}
    found = [f"- {line}" for line in numbers.get("findings", [])]
    busy = float(numbers["machine"]["load"]) > 1
    fields["busy"] = "The machine had other work: the figures are worth little, the ratios somewhat more." if busy else ""
    fields["findings"] = "\n".join(["What did not come up:", "", *found, ""]) if found else ""
    failed = [f"- {line}" for line in numbers.get("failed", [])]
    fields["failed"] = "\n".join(["What failed in this run:", "", *failed, ""]) if failed else ""
    for name, value in fields.items():
        page = page.replace(f"{{{{{name}}}}}", value)
    (out / "performance.md").write_text(page)
    update_readme(numbers, out.parent / "README.md")


def update_readme(numbers: Numbers, readme: Path) -> None:
    """Puts the figures that matter most between the marks that the README has for them."""
    if not readme.exists() or not all(mark in (whole := readme.read_text()) for mark in MARKS):
        return
    before, _, rest = whole.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    readme.write_text(f"{before}{MARKS[0]}\n\n{in_short(numbers)}\n\n{MARKS[1]}{after}")


def in_short(numbers: Numbers) -> str:
    found = {name: numbers["programs"].get(name, {}) for name in IN_SHORT}

    def most(own: Numbers) -> str:
        flood = next(flood for flood in own["floods"] if flood["rate"] == 0)
        return f"{flood['worked']} of 20 under {round(flood['reached'], -3):,.0f}/s"

    def line(name: str, figure: Callable[[Numbers], str]) -> list[str]:
        return [name, *(cell(lambda own=own: figure(own)) for own in found.values())]

    rows = [
        line("packet to open door, median", lambda own: f"{short(statistics.median(own['open_ms']))} ms"),
        line("processor time of a grant and its end", lambda own: f"{short(aims.grant_ms(own, own['idle_cpu']))} ms"),
        line("grants a second in a burst", lambda own: f"{own['burst']['grants_per_s']:,.0f}"),
        line("knocks that work under the most junk", most),
        line("a junk packet of a knock's length", lambda own: f"{short(own['junk_us']['right length'])} µs"),
        line("memory, idle", lambda own: f"{own['memory_kb'] / 1024:.1f} MB"),
    ]
    return table(["", *found], rows)


def tables(numbers: Numbers) -> dict[str, str]:
    return {
        "aims": table(["", "aim", "reached", ""], ([a[key] for key in ("name", "aim", "reached", "verdict")]
                                                   for a in numbers["aims"])),  # fmt: skip
        "daemons": daemons(numbers),
        "floods": floods(numbers),
        "many": many(numbers),
        "limits": limits(numbers),
    }


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Markdown, with columns as wide as a terminal wants them."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    padded = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * max(3, width) for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def cell(read: Callable[[], str]) -> str:
    """A figure, or a dash where it was not measured."""
    try:
        return read()
    except (KeyError, TypeError, IndexError, ZeroDivisionError, statistics.StatisticsError, StopIteration):
        return NOTHING


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float]) -> str:
    return f"{short(statistics.median(values))} / {short(percentile(values, 0.99))} ms"


def short(value: float) -> str:
    """Three figures."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def daemons(numbers: Numbers) -> str:
    """One column for each daemon with one client."""
    found = numbers["programs"]

    def line(name: str, figure: Callable[[Numbers], str]) -> list[str]:
        return [name, *(cell(lambda own=own: figure(own)) for own in found.values())]

    def junk(kind: str) -> Callable[[Numbers], str]:
        return lambda own: f"{short(own['junk_us'][kind])} µs"

    rows = [
        line("packet to open, median / p99", lambda own: spread(own["open_ms"])),
        line("with the client's start", lambda own: spread(own["start_open_ms"])),
        line("the client runs for, median", lambda own: f"{short(statistics.median(own['client_ms']))} ms"),
        line("processor time of a grant and its end", lambda own: f"{short(aims.grant_ms(own, own['idle_cpu']))} ms"),
        line("a burst: open / sent", lambda own: f"{own['burst']['opened']} / {own['burst']['sent']}"),
        line("grants a second in it", lambda own: f"{own['burst']['grants_per_s']:,.0f}"),
        *(line(f"processor time of junk: {kind}", junk(kind)) for kind in ("random", "right length", "right tag")),
        line("idle: wake-ups a second", lambda own: f"{own['wakeups_per_s']:.1f}"),
        line("idle: of one processor", lambda own: f"{100 * own['idle_cpu']:.2f} %"),
        line("memory, shared pages divided", lambda own: f"{own['memory_kb'] / 1024:.1f} MB"),
    ]
    return table(["", *found], rows)


def floods(numbers: Numbers) -> str:
    found = {name: own["floods"] for name, own in numbers["programs"].items() if own.get("floods")}
    rates = sorted({flood["rate"] for all_of in found.values() for flood in all_of}, key=lambda rate: rate or 1e12)

    def one(all_of: list[Numbers], rate: int) -> str:
        flood = next((flood for flood in all_of if flood["rate"] == rate), None)
        if not flood:
            return NOTHING
        reached = "" if rate and flood["reached"] > 0.8 * rate else f" ({flood['reached']:,.0f}/s)"
        return f"{flood['worked']}{reached}"

    names = [f"{rate:,}/s" if rate else "the most" for rate in rates]
    rows = [[one(all_of, rate) for all_of in found.values()] for rate in rates]
    return table(["junk", *found], ([name, *row] for name, row in zip(names, rows, strict=True)))


def many(numbers: Numbers) -> str:
    head = ["", "memory", "a junk packet", "a grant and its end", "packet to open, median"]
    rows = []
    crowds = {
        **{f"{label}, {int(n):,} clients": (label, own) for label, all_of in numbers["many"].items()
           for n, own in all_of.items()},
        **{f"{label}, packets remembered": (label, own) for label, own in numbers["remembered"].items()},
    }  # fmt: skip
    for name, (label, own) in crowds.items():
        idle = numbers["programs"].get(label, {}).get("idle_cpu", 0.0)
        rows.append([
            name,
            cell(lambda own=own: f"{own['memory_kb'] / 1024:.1f} MB"),
            cell(lambda own=own: f"{short(own['junk_us'])} µs"),
            cell(lambda own=own, idle=idle: f"{short(aims.grant_ms(own, idle))} ms"),
            cell(lambda own=own: f"{short(statistics.median(own['open_ms']))} ms"),
        ])  # fmt: skip
    return table(head, rows)


def limits(numbers: Numbers) -> str:
    figures, most = numbers.get("criterion_us", {}), numbers.get("most_junk") or {}
    rows = [["a bare fsync of a page", cell(lambda: f"{short(numbers['fsync_us'])} µs")]]
    rows += [[f"spa-proto: {name.split('/', 1)[-1]}", f"{short(value)} µs"] for name, value in figures.items()]
    loop = [
        ("a libpcap loop that only counts", lambda: f"{most['loop']['per_s']:,.0f} packets/s"),
        ("its processor time", lambda: f"{short(most['loop']['cpu_us'])} µs a packet"),
        ("of what reached the interface, it lost", lambda: lost(most["loop"]["arrived"], most["loop"]["counted"])),
        ("spa judges", lambda: f"{most['ours']['per_s']:,.0f} packets/s"),
        ("of what reached the interface, it lost", lambda: lost(most["ours"]["arrived"], most["ours"]["judged"])),
    ]
    rows += [[name, cell(read)] for name, read in loop]
    return table(["", ""], rows)


def lost(arrived: int, counted: int) -> str:
    return f"{100 * max(0, arrived - counted) / arrived:.2f} %"
