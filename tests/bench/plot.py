"""Numbers → SVG, without any library: bars and lines on logarithmic scales."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from html import escape
from typing import Any

import aims

Numbers = dict[str, Any]
WIDTH, ROW, LEFT, RIGHT = 760, 30, 170, 90
COLOURS = ("#0b6e99", "#c0504d", "#d98e04", "#7a5195", "#888888", "#3b8a3b", "#9bbb59")
STYLE = (
    "<style>text{font:13px sans-serif;fill:#333}.title{font-weight:bold;font-size:15px}.small{font-size:11px;fill:#666}"
    ".grid{stroke:#ddd}.axis{stroke:#999}@media(prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#aaa}"
    ".grid{stroke:#444}}</style>"
)


def all_plots(numbers: Numbers) -> dict[str, str]:
    """Every plot whose figures were measured, by its file's name."""
    programs = numbers["programs"]
    medians = {name: statistics.median(own["open_ms"]) for name, own in programs.items() if own.get("open_ms")}
    told = {name: own for name, own in programs.items() if own.get("grants") and own.get("idle_cpu", 1) < aims.POLLS}
    grants = {name: aims.grant_ms(own, own["idle_cpu"]) for name, own in told.items()}
    plots = {
        "open": bars("Packet to open, median", "ms", medians),
        "grant": bars("Processor time of a grant and its end, children included", "ms", grants),
        "knocks": knocks(numbers),
        "clients": clients(numbers),
    }
    return {name: picture for name, picture in plots.items() if picture}


def bars(title: str, unit: str, values: dict[str, float]) -> str:
    """Horizontal bars on a logarithmic scale."""
    values = {name: value for name, value in values.items() if value > 0}
    if not values:
        return ""
    low, high = decades(values.values())
    height = 40 + ROW * len(values) + 34
    parts = [label(10, 22, f"{title} (logarithmic)", "title")]
    for tick in ticks(low, high):
        x = place(tick, low, high, LEFT, WIDTH - RIGHT)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="36" x2="{x:.1f}" y2="{height - 28}"/>')
        parts.append(label(x, height - 12, f"{tick:g} {unit}", "small", "middle"))
    for number, (name, value) in enumerate(values.items()):
        y, x = 40 + ROW * number, place(value, low, high, LEFT, WIDTH - RIGHT)
        colour = COLOURS[0] if name == "spa" else COLOURS[4]
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(1.0, x - LEFT):.1f}" height="{ROW - 10}" fill="{colour}"/>')
        parts.append(label(LEFT - 8, y + 15, name, "", "end"))
        parts.append(label(x + 6, y + 15, f"{value:.3g} {unit}", "small"))
    return svg(height, parts)


def knocks(numbers: Numbers) -> str:
    """How many of twenty knocks work, over the junk that reached the gateway."""
    lines = {
        name: sorted((flood["reached"], float(flood["worked"])) for flood in own["floods"])
        for name, own in numbers["programs"].items()
        if own.get("floods")
    }
    return chart("Of 20 knocks, so many work", "junk packets a second", lines, linear_top=20)


def clients(numbers: Numbers) -> str:
    """What a junk packet costs, over the number of clients."""
    lines = {
        name: [(float(count), own["junk_us"]) for count, own in rows.items() if own.get("junk_us")]
        for name, rows in numbers["many"].items()
    }
    return chart("Processor time of a junk packet of a knock's length, in µs", "clients (knockd: sequences)", lines)


def chart(title: str, below: str, lines: dict[str, list[tuple[float, float]]], linear_top: float = 0) -> str:
    """Lines over a logarithmic axis; upwards logarithmic too, or linear up to a value."""
    points = [point for line in lines.values() for point in line if point[0] > 0]
    if not points:
        return ""
    height, top, bottom, left, right = 360, 44, 310, 60, WIDTH - 150
    x_low, x_high = decades(point[0] for point in points)
    y_low, y_high = (0.0, linear_top) if linear_top else decades(max(1e-3, point[1]) for point in points)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x = place(point[0], x_low, x_high, left, right)
        if linear_top:
            return x, bottom - (bottom - top) * point[1] / linear_top
        return x, place(max(1e-3, point[1]), y_low, y_high, bottom, top)

    parts = [label(10, 22, title, "title"), label((left + right) / 2, height - 10, below, "small", "middle")]
    for tick in ticks(x_low, x_high):
        x, _ = at((tick, y_high))
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(label(x, bottom + 18, f"{tick:,.0f}", "small", "middle"))
    for tick in [5.0 * number for number in range(5)] if linear_top else ticks(y_low, y_high):
        _, y = at((x_low, tick))
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(label(left - 6, y + 4, f"{tick:,g}", "small", "end"))
    for number, (name, line) in enumerate(lines.items()):
        parts += drawn(name, [at(point) for point in line], COLOURS[number % len(COLOURS)], number, right, top)
    return svg(height, parts)


def drawn(name: str, line: list[tuple[float, float]], colour: str, number: int, right: float, top: float) -> list[str]:
    """One line with its dots and its name in the legend."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in line]
    y = top + 10 + 22 * number
    legend = f'<rect x="{right + 14}" y="{y - 9}" width="12" height="12" fill="{colour}"/>'
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots, legend,
            label(right + 32, y + 2, name)]  # fmt: skip


def decades(values: Iterable[float]) -> tuple[float, float]:
    """The powers of ten around these values, never the same one."""
    known = [value for value in values if value > 0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def ticks(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def place(value: float, low: float, high: float, first: float, last: float) -> float:
    share = (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return first + share * (last - first)


def label(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def svg(height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    return "\n".join([head, STYLE, *parts, "</svg>", ""])
