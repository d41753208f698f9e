"""The measurements still work: a short run of all of them, whose figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import unittest
from pathlib import Path
from xml.etree import ElementTree

import harness
from harness import BIN, ROOT, SystemTest

BENCH = ROOT / "tests" / "bench"
sys.path.insert(0, str(BENCH))

import aims  # noqa: E402
import parts  # noqa: E402
import plot  # noqa: E402

CRITERION = """valid/floor: one bare X25519
                        time:   [60.010 µs 61.250 µs 62.480 µs]
                        change: [-1.0% +0.1% +1.2%] (p = 0.9 > 0.05)
valid/short             time:   [980.10 ns 1.0100 ms 1.0400 ms]
"""


def setUpModule() -> None:
    harness.require("fwknopd", "fwknop", "knockd", "knock", binaries=("spa-server", "spa-client", "flood", "count"))


class Bench(SystemTest):
    with_sshd = False

    def test_a_short_run_measures_everything(self) -> None:
        out = self.network.folder / "out"
        argv = [sys.executable, str(BENCH / "bench.py"), "--quick", "--out", str(out)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        self.assertNotIn("{{", (out / "performance.md").read_text(), "a field that nothing fills")
        numbers = json.loads((out / "performance" / "run.json").read_text())
        # Criterion's part is left out of a short run: it would be built first.
        missing = [aim["name"] for aim in numbers["aims"] if aim["verdict"] == "-"]
        self.assertEqual(len(missing), 1, missing)
        self.assertEqual(numbers["programs"]["spa"]["missed"], 0)
        self.assertEqual(numbers["programs"]["spa"]["floods"][0]["worked"], 20)
        pictures = sorted(path.name for path in (out / "performance").glob("*.svg"))
        self.assertEqual(pictures, ["clients.svg", "grant.svg", "knocks.svg", "open.svg"])
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        names = harness.run("ip", "netns", "list").stdout
        own = [line for line in names.splitlines() if line.startswith("spa-") and str(harness.os.getpid()) not in line]
        dead = [line for line in own if not Path(f"/proc/{line.split('-')[1]}").exists()]
        self.assertEqual(dead, [], "namespaces of a run that is over")


class Figures(unittest.TestCase):
    def test_criterion_is_read(self) -> None:
        read = dict(parts.read_criterion(CRITERION))
        self.assertEqual(read, {"valid/floor: one bare X25519": 61.25, "valid/short": 1010.0})

    def test_aims_are_judged(self) -> None:
        figures = {f"valid/through step 7, {count} clients": value for count, value in ((1, 100.0), (1_000_000, 131.0))}
        verdicts = {aim["name"]: aim["verdict"] for aim in aims.judge({"criterion_us": figures})}
        self.assertEqual(verdicts.pop("a knock's judgement among 1,000,000 clients, of that among 1"), "miss")
        self.assertEqual(set(verdicts.values()), {"-"})

    def test_plots_are_pictures(self) -> None:
        picture = plot.chart("a < b", "c", {"one": [(1.0, 3.0), (1000.0, 20.0)], "none": []})
        self.assertTrue(ElementTree.fromstring(picture).tag.endswith("svg"))
        self.assertEqual(plot.bars("nothing", "ms", {}), "")


if __name__ == "__main__":
    unittest.main()
