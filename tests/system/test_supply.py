"""What the programs are made of: licences, sources, reasons, bills of materials, and how they are linked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import unittest
from collections import Counter
from typing import Any

from harness import BIN, ROOT, run

PROGRAMS = ("spa-server", "spa-keys", "spa-client")
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
METADATA: dict[str, Any] = {}


def setUpModule() -> None:
    if not shutil.which("cargo"):
        raise unittest.SkipTest("not there: cargo")
    argv = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"]
    done = run(*argv, cwd=ROOT, check=False, timeout=120)
    if done.returncode:
        raise unittest.SkipTest(f"cargo metadata: {done.stderr.strip()}")
    METADATA.update(json.loads(done.stdout))


def own() -> list[dict[str, Any]]:
    return [package for package in METADATA["packages"] if package["id"] in METADATA["workspace_members"]]


def shipped() -> list[dict[str, Any]]:
    """What users get and what it is made of; measuring programs are not."""
    return [package for package in own() if package["name"] in (*PROGRAMS, "spa-proto")]


class Sources(unittest.TestCase):
    def test_everything_else_is_from_the_registry_with_a_checksum(self) -> None:
        with (ROOT / "Cargo.lock").open("rb") as file:
            locked = tomllib.load(file)["package"]
        ours = {package["name"] for package in own()}
        self.assertLessEqual({*PROGRAMS, "spa-proto"}, ours)
        for package in locked:
            if package["name"] not in ours:
                self.assertEqual(package.get("source"), REGISTRY, package["name"])
                self.assertRegex(package.get("checksum", ""), r"\A[0-9a-f]{64}\Z", package["name"])

    def test_every_licence_is_one_that_deny_toml_allows(self) -> None:
        with (ROOT / "deny.toml").open("rb") as file:
            allowed = set(tomllib.load(file)["licenses"]["allow"])
        for package in METADATA["packages"]:
            licence = (package["license"] or "").replace(" / ", "/").replace("/", " OR ")
            self.assertTrue(is_allowed(licence, allowed), f"{package['name']}: {licence!r}")

    def test_the_licence_test_can_fail(self) -> None:
        allowed = {"MIT", "ISC"}
        for licence, expected in (("MIT", True), ("GPL-3.0", False), ("GPL-3.0 OR MIT", True), ("", False)):
            self.assertEqual(is_allowed(licence, allowed), expected, licence)
        self.assertTrue(is_allowed("(MIT OR GPL-3.0) AND ISC", allowed))
        self.assertFalse(is_allowed("(MIT OR GPL-3.0) AND GPL-2.0", allowed))

    def test_one_cryptography_is_shipped(self) -> None:
        found = {name for program in PROGRAMS for name in parts(program)}
        for name in ("ring", "openssl-sys", "aws-lc-rs", "snow"):
            self.assertNotIn(name, found)
        crypto = ("curve25519-dalek", "chacha20poly1305", "sha2", "hmac", "subtle", "zeroize")
        for program in PROGRAMS:
            times = Counter(parts(program))
            self.assertEqual({name: times[name] for name in crypto}, dict.fromkeys(crypto, 1), program)


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """An SPDX expression: OR is a choice, AND is both, brackets group; OR binds weaker."""
    expression = expression.strip()
    for word, agree in ((" OR ", any), (" AND ", all)):
        terms = split_outside(expression, word)
        if len(terms) > 1:
            return agree(is_allowed(term, allowed) for term in terms)
    if expression.startswith("(") and expression.endswith(")"):
        return is_allowed(expression[1:-1], allowed)
    return expression in allowed


def split_outside(text: str, word: str) -> list[str]:
    """Splits at `word` where no bracket is open."""
    terms, depth, begun, at = [], 0, 0, 0
    while at < len(text):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0 and text.startswith(word, at):
            terms.append(text[begun:at])
            begun = at + len(word)
            at = begun
        else:
            at += 1
    return [*terms, text[begun:]]


class Reasons(unittest.TestCase):
    def test_each_crate_that_is_named_has_its_reason_and_no_other_has(self) -> None:
        named: dict[str, set[str]] = {}
        for package in shipped():
            for needed in package["dependencies"]:
                if not needed.get("path"):
                    named.setdefault(needed["name"], set()).add(needed["kind"] or "normal")
        page = (ROOT / "docs" / "dependencies.md").read_text()
        programs, _, tests = page.partition("For tests and benchmarks only")
        for text, wanted in ((programs, True), (tests, False)):
            rows = re.findall(r"^\| ([a-z][a-z0-9_-]*) \|", text, re.MULTILINE)
            rows.remove("crate")
            self.assertEqual(rows, sorted(rows))
            self.assertEqual(set(rows), {name for name, kinds in named.items() if ("normal" in kinds) == wanted})


def bill(program: str) -> dict[str, Any]:
    host = re.search(r"^host: (\S+)", run("rustc", "-vV").stdout, re.MULTILINE)
    assert host
    argv = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host[1]]
    metadata = run(*argv, cwd=ROOT, timeout=120).stdout
    made = run(sys.executable, ROOT / "scripts" / "sbom.py", program, stdin=metadata)
    again = run(sys.executable, ROOT / "scripts" / "sbom.py", program, stdin=metadata)
    if made.stdout != again.stdout:
        raise AssertionError("the same input gives another bill")
    return dict(json.loads(made.stdout))


def parts(program: str) -> list[str]:
    return [component["name"] for component in bill(program)["components"]]


class Bills(unittest.TestCase):
    def test_a_bill_is_what_cargo_builds_in(self) -> None:
        for program in PROGRAMS:
            made = bill(program)
            self.assertEqual((made["bomFormat"], made["specVersion"]), ("CycloneDX", "1.5"))
            self.assertEqual(made["metadata"]["component"]["name"], program)
            listed = {(one["name"], one["version"]) for one in made["components"]}
            argv = ["cargo", "tree", "--locked", "--offline", "-p", program, "-e", "normal,build", "--prefix", "none"]
            tree = run(*argv, "--format", "{p}", cwd=ROOT, timeout=120).stdout.splitlines()
            expected = {tuple(line.split()[:2]) for line in tree if line.strip()}
            expected = {(name, version.removeprefix("v")) for name, version in expected} - {
                (program, made["metadata"]["component"]["version"])
            }
            # Without its features resolved for one package, a workspace's metadata can only know more.
            self.assertLessEqual(expected, listed)
            references = {one["bom-ref"] for one in [made["metadata"]["component"], *made["components"]]}
            for edge in made["dependencies"]:
                self.assertIn(edge["ref"], references)
                self.assertLessEqual(set(edge["dependsOn"]), references)

    def test_a_wrong_call_says_how(self) -> None:
        done = run(sys.executable, ROOT / "scripts" / "sbom.py", check=False)
        self.assertEqual((done.returncode, done.stdout), (64, ""))
        self.assertIn("CycloneDX", done.stderr)


class Hardening(unittest.TestCase):
    """What the linker was told: nothing of a program lies at a place that is known, or is written and run."""

    def readelf(self, option: str, program: str) -> str:
        path = BIN / program
        if not shutil.which("readelf") or not path.exists():
            self.skipTest(f"not there: readelf, or {path}")
        return subprocess.run(["readelf", "-W", option, path], capture_output=True, text=True, check=True).stdout

    def test_programs_are_position_independent(self) -> None:
        for program in PROGRAMS:
            self.assertRegex(self.readelf("-h", program), r"Type:\s+DYN \(Position-Independent Executable")
            self.assertIn("PIE", self.readelf("-d", program))

    def test_what_the_loader_fills_in_is_read_only_afterwards(self) -> None:
        for program in PROGRAMS:
            self.assertIn("GNU_RELRO", self.readelf("-l", program))
            self.assertRegex(self.readelf("-d", program), r"BIND_NOW|FLAGS_1\).*NOW")

    def test_no_stack_and_nothing_that_is_written_can_be_run(self) -> None:
        for program in PROGRAMS:
            headers = self.readelf("-l", program)
            stack = re.search(r"GNU_STACK.*", headers)
            assert stack
            self.assertNotIn("E", stack[0].split()[-2], stack[0])
            for load in re.findall(r"^\s+LOAD.*", headers, re.MULTILINE):
                self.assertNotRegex(load, r"\bRWE\b")


if __name__ == "__main__":
    unittest.main()
