"""What this project aims at, each as a ratio of two figures of one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

Numbers = dict[str, Any]
# Of one processor; a daemon that needs more while idle looks for packets all the time.
POLLS = 0.05


def judge(numbers: Numbers) -> list[Numbers]:
    """Each aim with what was reached, and whether that is enough; "not measured" where a figure is missing."""
    return [row(name, aim, figure, numbers) for name, aim, figure in AIMS]


def row(name: str, aim: str, figure: Callable[[Numbers], tuple[str, bool]], numbers: Numbers) -> Numbers:
    try:
        reached, good = figure(numbers)
    except (KeyError, TypeError, IndexError, ZeroDivisionError, statistics.StatisticsError, StopIteration):
        return {"name": name, "aim": aim, "reached": "not measured", "verdict": "-"}
    return {"name": name, "aim": aim, "reached": reached, "verdict": "pass" if good else "miss"}


def median_ms(numbers: Numbers, program: str) -> float:
    return statistics.median(numbers["programs"][program]["open_ms"])


def grant_cpu_ms(numbers: Numbers, program: str) -> float:
    """What each grant and its end cost, without what the idle daemon costs in that time."""
    return grant_ms(numbers["programs"][program], numbers["programs"][program]["idle_cpu"])


def grant_ms(found: Numbers, idle: float) -> float:
    if idle >= POLLS:
        raise KeyError("what it needs for a grant cannot be told from its polling")
    return 1000 * max(0.0, found["grant_cpu_s"] - idle * found["grant_wall_s"]) / found["grants"]


def junk_rate(numbers: Numbers) -> tuple[str, bool]:
    most = numbers["most_junk"]
    ratio = most["ours"]["per_s"] / most["loop"]["per_s"]
    return f"{ratio:.2f} ({most['ours']['per_s']:,.0f} of {most['loop']['per_s']:,.0f})", ratio >= 0.8


def junk_lost(numbers: Numbers) -> tuple[str, bool]:
    ours = numbers["most_junk"]["ours"]
    share = ours["dropped"] / ours["arrived"]
    return f"{100 * share:.2f} %", share < 0.01


def knocks(numbers: Numbers) -> tuple[str, bool]:
    most = next(flood for flood in numbers["programs"]["spa"]["floods"] if flood["rate"] == 0)
    return f"{most['worked']} of 20 under {most['reached']:,.0f}/s", most["worked"] == 20


def flat(numbers: Numbers) -> tuple[str, bool]:
    figures = numbers["criterion_us"]
    one, most = (figures[f"valid/through step 7, {count} clients"] for count in (1, 1_000_000))
    return f"{most / one:.2f} ({one:.0f} µs and {most:.0f} µs)", most / one <= 1.3


def below(program: str, parts: int) -> Callable[[Numbers], tuple[str, bool]]:
    def figure(numbers: Numbers) -> tuple[str, bool]:
        ours, theirs = median_ms(numbers, "spa"), median_ms(numbers, program)
        return f"1/{theirs / ours:.1f} ({ours:.2f} of {theirs:.1f} ms)", ours * parts < theirs

    return figure


def grants(numbers: Numbers) -> tuple[str, bool]:
    found = numbers["programs"]["spa"]["paced"]
    good = found["opened"] == found["sent"] and found["sending_s"] <= 1.05
    text = f"{found['opened']} of {found['sent']} open, sent in {found['sending_s']:.2f} s"
    return f"{text}, open after {found['took_s']:.2f} s", good


def cpu(numbers: Numbers) -> tuple[str, bool]:
    ours, theirs = grant_cpu_ms(numbers, "spa"), grant_cpu_ms(numbers, "knockd")
    return f"1/{theirs / ours:.1f} ({ours:.2f} of {theirs:.2f} ms)", ours * 10 < theirs


AIMS: tuple[tuple[str, str, Callable[[Numbers], tuple[str, bool]]], ...] = (
    ("junk judged, of what a loop that only counts takes", "at least 0.8", junk_rate),
    ("of the most junk, lost before it was judged", "below 1 %", junk_lost),
    ("valid knocks that work under the most junk", "20 of 20", knocks),
    ("a knock's judgement among 1,000,000 clients, of that among 1", "at most 1.3", flat),
    ("packet to open, of fwknopd -U's", "below 1/5", below("fwknopd -U", 5)),
    ("packet to open, of fwknopd's as it comes", "below 1/20", below("fwknopd", 20)),
    ("2,000 knocks of 1,000 clients within a second", "all open", grants),
    ("processor time of a grant, of knockd's", "below 1/10", cpu),
)
