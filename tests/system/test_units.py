"""The unit files of packaging/systemd, as systemd-analyze reads them."""

from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path

import harness
from harness import BIN, ROOT, run


def setUpModule() -> None:
    harness.require()
    if not shutil.which("systemd-analyze"):
        raise unittest.SkipTest("not there: systemd-analyze")


class Units(unittest.TestCase):
    def test_systemd_finds_nothing_wrong(self) -> None:
        with tempfile.TemporaryDirectory(prefix="spa-units-") as folder:
            for unit in (ROOT / "packaging" / "systemd").glob("*.service"):
                # It looks for the program too.
                text = unit.read_text().replace("/usr/local/sbin/spa-server", str(BIN / "spa-server"))
                self.assertIn(str(BIN), text)
                (Path(folder) / unit.name).write_text(text)
            units = sorted(Path(folder).glob("*.service"))
            self.assertEqual(len(units), 3)
            done = run("systemd-analyze", "verify", "--man=no", *units, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
