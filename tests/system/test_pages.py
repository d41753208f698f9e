"""The pages against the code: every test they name is there, every link leads somewhere, every row has its answer."""

from __future__ import annotations

import ast
import functools
import re
import unicodedata
import unittest
from pathlib import Path

from harness import ROOT, run

PYTHON_NAME = re.compile(r"`(test_\w+)\.(\w+)\.(test_\w+)`")
RUST_NAME = re.compile(r"`(spa_\w+)((?:::\w+)+)::(\w+)`")
CRATES = {"spa_proto": "spa-proto", "spa_keys": "keys", "spa_server": "spa-server", "spa_client": "spa-client"}
NAMING = ("docs/behaviours.md", "docs/threat-model.md")
# What says why a row needs no test.
NO_TEST = re.compile(r"\*\*(Does not apply|Not held|Not defended)\.\*\* \w")
# A test there shows what becomes of a control character.
SHOWN_RAW = {"spa-server/src/config/read.rs": {"0x1"}}
TEST_IN_RUST = r"#\[(?:tokio::)?test\](?:\s*#\[[^\]]*\])*\s*(?:async )?fn {name}\b|^\s+fn {name}\([^)]*\bin\b"


def pages() -> list[Path]:
    """Every page that is kept in the repository."""
    listed = run("git", "-C", ROOT, "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard", "*.md")
    return [ROOT / name for name in listed.stdout.splitlines()]


@functools.cache
def methods(module: str) -> set[tuple[str, str]]:
    """Class and name of each test of a module beside this one."""
    file = Path(__file__).with_name(f"{module}.py")
    if not file.exists():
        return set()
    classes = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef))
    return {(one.name, part.name) for one in classes for part in one.body if isinstance(part, ast.FunctionDef)}


def rust_files(crate: str, path: list[str]) -> list[Path]:
    """Where a module's tests can be: in its file, in its `tests.rs`, or in the crate's folder `tests`."""
    folder = ROOT / CRATES[crate]
    inner = "/".join(path)
    ways = (f"src/{inner}.rs", f"src/{inner}/tests.rs", f"{inner}.rs", f"src/bin/{inner}.rs")
    return [file for way in ways if (file := folder / way).is_file()]


@functools.cache
def is_rust_test(crate: str, path: str, name: str) -> bool:
    if crate not in CRATES:
        return False
    pattern = re.compile(TEST_IN_RUST.replace("{name}", name), re.MULTILINE)
    return any(pattern.search(file.read_text()) for file in rust_files(crate, path.strip(":").split("::")))


def unknown_tests(text: str) -> list[str]:
    """The tests that a text names and nobody has."""
    wrong = [m[0] for m in PYTHON_NAME.finditer(text) if (m[2], m[3]) not in methods(m[1])]
    return wrong + [m[0] for m in RUST_NAME.finditer(text) if not is_rust_test(m[1], m[2], m[3])]


def names_a_test(text: str) -> bool:
    return bool(PYTHON_NAME.search(text) or RUST_NAME.search(text))


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in found if not set(row[0]) <= set("- :")]


class Named(unittest.TestCase):
    def test_every_test_that_a_page_names_is_there(self) -> None:
        for name in NAMING:
            with self.subTest(name):
                text = (ROOT / name).read_text()
                self.assertTrue(names_a_test(text))
                self.assertEqual(unknown_tests(text), [])

    def test_a_name_that_nobody_has_is_noticed(self) -> None:
        wrong = ("`test_path.Path.test_nothing`", "`test_nothing.Path.test_x`", "`spa_keys::units::nothing`")
        helpers = ("`spa_server::policy::policy`", "`spa_nothing::policy::durations_are_capped_twice`")
        for text in (*wrong, *helpers):
            self.assertEqual(unknown_tests(text), [text])
        self.assertEqual(unknown_tests("`test_path.Path.test_a_scan_sees_nothing` `spa_keys::units::times`"), [])


class Rows(unittest.TestCase):
    def test_every_behaviour_has_one_row_with_a_test_or_a_reason(self) -> None:
        found = {row[0]: row for row in rows((ROOT / "docs/behaviours.md").read_text()) if row[0] != "no."}
        expected = [*map(str, range(1, 93)), *(f"A{number}" for number in range(1, 14))]
        self.assertEqual(list(found), expected)
        for number, row in found.items():
            with self.subTest(number):
                self.assertEqual(len(row), 3, row)
                self.assertTrue(names_a_test(row[2]) or NO_TEST.search(row[2]), row)

    def test_every_attack_has_an_answer_and_a_test_or_says_that_it_is_not_defended(self) -> None:
        text = (ROOT / "docs/threat-model.md").read_text()
        section = text.partition("## Attacks")[2].partition("\n## ")[0]
        attacks = [row for row in rows(section) if row[0] != "attack"]
        self.assertGreaterEqual(len(attacks), 17)
        for row in attacks:
            with self.subTest(row[0]):
                self.assertEqual(len(row), 3, row)
                self.assertTrue(names_a_test(row[2]) or NO_TEST.search(row[1] + row[2]), row)


class Log(unittest.TestCase):
    def test_every_line_that_operations_explains_is_one_that_the_daemon_says(self) -> None:
        section = (ROOT / "docs/operations.md").read_text().partition("## What the log says")[2].partition("\n## ")[0]
        said = [words for row in rows(section) for words in re.findall(r"`([^`]+)`", row[0])]
        self.assertGreater(len(said), 20)
        sources = "".join(file.read_text() for file in (ROOT / "spa-server" / "src").rglob("*.rs"))
        self.assertEqual([words for words in said if f'"{words}' not in sources and f": {words}" not in sources], [])


class Links(unittest.TestCase):
    def test_every_link_inside_the_repository_leads_somewhere(self) -> None:
        for page in pages():
            with self.subTest(str(page.relative_to(ROOT))):
                self.assertEqual([link for link in links(page.read_text()) if not self.leads(page, link)], [])

    def leads(self, page: Path, link: str) -> bool:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            return False
        return not anchor or (target.suffix == ".md" and anchor in anchors(target.read_text()))


def links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    heads = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


class Sources(unittest.TestCase):
    def test_no_source_hides_what_it_says(self) -> None:
        """No control character, nothing invisible, nothing that turns the direction of writing."""
        listed = run("git", "-C", ROOT, "-c", f"safe.directory={ROOT}", "ls-files", "*.rs", "*.py", "*.sh", "*.toml")
        for name in listed.stdout.splitlines():
            text = (ROOT / name).read_text()
            wrong = {hex(ord(letter)) for letter in text if letter not in "\n\t" and hides(letter)}
            self.assertEqual(wrong, SHOWN_RAW.get(name, set()), name)


def hides(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")


if __name__ == "__main__":
    unittest.main()
