#!/usr/bin/python3
"""Runs the system tests, several at once, and counts them.

    tests/system/run.py [--jobs N] [NAME...]

NAME is a module, a class or a test as unittest names them; all unless told. Each group of tests has a process and
namespaces of its own. What measures (ALONE) runs when nothing else does. A test that failed beside others is run once
more by itself, and that is what counts: it is named then. The last line is `N passed, M failed, K skipped`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALONE = ("test_flood", "test_latency", "test_bench")
LARGEST_GROUP = 6
LONGEST_GROUP_S = 900
MOST_REPEATED = 12


@dataclass
class Outcome:
    """What became of some tests, by their names."""

    good: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)

    def add(self, other: Outcome) -> None:
        self.good |= other.good
        self.bad |= other.bad
        self.skipped |= other.skipped

    def to_json(self) -> str:
        return json.dumps({"good": sorted(self.good), "bad": sorted(self.bad), "skipped": sorted(self.skipped)})

    @staticmethod
    def from_json(line: str) -> Outcome:
        read = json.loads(line)
        return Outcome(set(read["good"]), set(read["bad"]), set(read["skipped"]))


class Result(unittest.TextTestResult):
    """Remembers the tests that passed, too."""

    def startTestRun(self) -> None:
        self.good: set[str] = set()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.good.add(test.id())


def run_here(names: list[str]) -> Outcome:
    """Runs tests in this process; a test is counted once, however many of its cases failed."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Result).run(suite)
    failed = [test for test, _ in result.failures + result.errors] + result.unexpectedSuccesses
    bad = {name_of(test) for test in failed}
    skipped = {name_of(test) for test, _ in result.skipped}
    return Outcome(result.good - bad, bad, skipped - bad)


def name_of(test: unittest.TestCase) -> str:
    return getattr(test, "test_case", test).id()


def flat(suite: Iterable[unittest.TestSuite | unittest.TestCase]) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def find(names: list[str]) -> list[str]:
    """The tests, by name. A module that cannot be read is one test that fails."""
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromNames(names) if names else loader.discover(str(HERE))
    return [test.id() for test in flat([suite])]


def groups(names: list[str]) -> list[list[str]]:
    """Tests of one class, a few at a time; long classes begin first, so that none is left over at the end."""
    by_class = [list(found) for _, found in groupby(sorted(names), lambda name: name.rpartition(".")[0])]
    by_class.sort(key=len, reverse=True)
    return [found[at : at + LARGEST_GROUP] for found in by_class for at in range(0, len(found), LARGEST_GROUP)]


_printing = threading.Lock()


def run_apart(names: list[str]) -> Outcome:
    """Runs tests in a process of their own and prints what it said."""
    argv = [sys.executable, "-u", str(Path(__file__).resolve()), "--here", *names]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONGEST_GROUP_S)
        said = done.stdout
    except subprocess.TimeoutExpired as late:
        said = f"{late.stdout or ''}\nnot done within {LONGEST_GROUP_S} s"
    text, _, last = said.rstrip("\n").rpartition("\n")
    try:
        outcome = Outcome.from_json(last)
    except (ValueError, KeyError, TypeError):
        text, outcome = said, Outcome(bad=set(names))
    with _printing:
        print(text, flush=True)
    return outcome


def run_all(names: list[str], jobs: int) -> Outcome:
    alone = [name for name in names if name.startswith(ALONE)]
    outcome = Outcome()
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(run_apart, groups([name for name in names if name not in alone])):
            outcome.add(found)
    again = sorted(outcome.bad) if jobs > 1 and len(outcome.bad) <= MOST_REPEATED else []
    outcome.bad -= set(again)
    for group in [[name] for name in again] + groups(alone):
        if group[0] in again:
            print(f"once more, alone: {group[0]}", flush=True)
        outcome.add(run_apart(group))
    for name in sorted(set(again) & outcome.good):
        print(f"failed beside others, passed alone: {name}")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3, help="how many at once (3)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if options.here:
        print(run_here(options.names).to_json())
        return 0
    outcome = run_all(find(options.names), max(1, options.jobs))
    for name in sorted(outcome.bad):
        print(f"failed: {name}")
    print(f"{len(outcome.good)} passed, {len(outcome.bad)} failed, {len(outcome.skipped)} skipped")
    return bool(outcome.bad)


if __name__ == "__main__":
    sys.exit(main())
