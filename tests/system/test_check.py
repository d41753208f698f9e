"""What `check` says of a real host, and of every example that is shipped."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import harness
import kinds
from harness import ROOT, SystemTest


def setUpModule() -> None:
    harness.require("nft", "ssh", "tcpd")
    if why := kinds.missing():
        raise unittest.SkipTest(why)


class Examples(SystemTest):
    """Each is good where it is meant for: a host that refuses sshd in hosts.deny and has the person's program."""

    def test_every_shipped_example_passes(self) -> None:
        programs = self.network.folder / "programs"
        programs.mkdir()
        (programs / "vpn-door").write_text("#!/bin/sh\n")
        (programs / "vpn-door").chmod(0o755)
        self.gateway.bind = {**kinds.Wrappers(self.network).bind, "/usr/local/sbin": programs}
        examples = sorted((ROOT / "docs" / "examples").glob("*.toml"))
        self.assertGreaterEqual(len(examples), 3)
        for example in examples:
            with self.subTest(example.name):
                answer = self.check(example)
                self.assertTrue(answer["ok"], answer["findings"])
                # What nobody listens on here, what no client may open yet, and the person's table that is not there.
                levels = {(finding["level"], finding["code"]) for finding in answer["findings"]}
                expected = {"nobody-listens", "nobodys-service", "no-named-chain"}
                self.assertLessEqual(levels, {("warning", code) for code in expected})

    def check(self, file: Path) -> dict[str, Any]:
        return harness.as_object(self.gateway.control("check", "--json", "--config", str(file), check=False).stdout)


if __name__ == "__main__":
    unittest.main()
