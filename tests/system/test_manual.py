"""Man pages and completions: they are made, whole, clean, and say what the programs do."""

from __future__ import annotations

import re
import shutil
import tempfile
import unittest
from pathlib import Path

from harness import BIN, ROOT, run

PROGRAMS = {"spa-server": "8", "spa-keys": "8", "spa-client": "1"}
PAGES = ROOT / "docs" / "man"


def setUpModule() -> None:
    missing = [str(BIN / name) for name in PROGRAMS if not (BIN / name).exists()]
    if missing:
        raise unittest.SkipTest(f"not there: {', '.join(missing)}")


class Generated(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="spa-manual-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for program in PROGRAMS:
            run("env", "SOURCE_DATE_EPOCH=1767225600", BIN / program, "manual", self.folder)

    def pages(self) -> list[Path]:
        return sorted(self.folder.glob("*.[158]"))

    def commands(self, *words: str) -> list[str]:
        """The commands that `--help` lists."""
        said = run(BIN / words[0], *words[1:], "--help").stdout
        below = re.search(r"^Commands:\n((?:  .*\n)+)", said, re.MULTILINE)
        names = re.findall(r"^  ([a-z][a-z-]*)", below[1], re.MULTILINE) if below else []
        return [name for name in names if name != "help"]

    def test_there_is_a_page_for_every_command(self) -> None:
        expected = set()
        for program, section in PROGRAMS.items():
            expected.add(f"{program}.{section}")
            for command in self.commands(program):
                expected.add(f"{program}-{command}.{section}")
                for below in self.commands(program, command):
                    expected.add(f"{program}-{command}-{below}.{section}")
        self.assertGreater(len(expected), 45)
        self.assertEqual({page.name for page in self.pages()}, expected)

    def test_a_page_has_every_option_of_its_command(self) -> None:
        for page in self.pages():
            words = page.stem.split("-", 2)
            program, rest = "-".join(words[:2]), words[2:]
            begun = [name for name in self.commands(program) if rest and f"{rest[0]}-".startswith(f"{name}-")]
            command = max(begun, key=len, default="")
            below = rest[0].removeprefix(command).strip("-") if rest else ""
            said = run(BIN / program, *filter(None, (command, below)), "--help").stdout
            text = page.read_text().replace("\\-", "-")
            for option in set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", said, re.MULTILINE)):
                self.assertIn(option, text, page.name)

    def test_pages_are_clean(self) -> None:
        for page in [*self.pages(), *PAGES.iterdir()]:
            self.assert_clean(page)

    def assert_clean(self, page: Path) -> None:
        looked = 0
        for argv in (["mandoc", "-Tlint", "-Wwarning", page], ["man", "--warnings", "-l", "-Tutf8", "-Z", page]):
            if shutil.which(str(argv[0])):
                done = run("env", "LC_ALL=C.UTF-8", "MANROFFOPT=-ww", *argv, check=False)
                said = done.stderr + (done.stdout if argv[0] == "mandoc" else "")
                self.assertEqual((done.returncode, said), (0, ""), page.name)
                looked += 1
        if not looked:
            self.skipTest("not there: mandoc, man")

    def test_an_unclean_page_would_be_found(self) -> None:
        page = self.folder / "bad.1"
        page.write_text(".TH bad 1 2026-01-01\n.SH NAME\nbad \\- page\n.XX what\n.SH\n")
        with self.assertRaises(AssertionError):
            self.assert_clean(page)

    def test_a_page_is_dated_and_says_what_is_hidden_nowhere(self) -> None:
        for page in self.pages():
            text = page.read_text()
            title = next(line for line in text.splitlines() if line.startswith(".TH"))
            self.assertRegex(title, rf'^\.TH {page.stem} {page.suffix[1:]} 2026-01-01 "spa-\w+ [0-9.]+" ')
            self.assertNotIn("undo-unless-confirmed", text.replace("\\-", "-"))

    def test_bash_completes_commands_and_options(self) -> None:
        for program in PROGRAMS:
            script = self.folder / f"{program}.bash"
            for typed, expected in (("", self.commands(program)), ("--", ["--help"])):
                # What readline does on a tab: it asks which function completes the program, and calls it.
                ask = (
                    f'. "$0"; [[ $(complete -p {program}) =~ -F\\ ([^ ]+) ]]; '
                    f'COMP_WORDS=({program} "{typed}"); COMP_CWORD=1; '
                    f'"${{BASH_REMATCH[1]}}" {program} "{typed}" {program}; echo "${{COMPREPLY[@]}}"'
                )
                said = run("bash", "-c", ask, script, check=False)
                self.assertLessEqual(set(expected), set(said.stdout.split()), f"{program} {typed!r}: {said.stderr}")

    def test_other_shells_take_theirs(self) -> None:
        for shell, pattern in (("zsh", "_{}"), ("fish", "{}.fish")):
            for program in PROGRAMS:
                script = self.folder / pattern.format(program)
                self.assertGreater(script.stat().st_size, 1000)
                if shutil.which(shell):
                    run(shell, "-n", script)

    def test_a_folder_that_is_not_there_is_an_error(self) -> None:
        for program in PROGRAMS:
            done = run(BIN / program, "manual", self.folder / "nowhere", check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("nowhere", done.stderr)


class Files(unittest.TestCase):
    """Pages of files, held to the types that read them."""

    def keys_of(self, source: str, *names: str) -> set[str]:
        """The keys of serde's structs, by their names in Rust."""
        text = (ROOT / source).read_text()
        found = set()
        for name in names:
            body = re.search(rf"struct {name} \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
            assert body, name
            fields = re.findall(r'(?:rename = "([a-z-]+)"[^\n]*\n\s*)?^    (?:pub )?(\w+):', body[1], re.MULTILINE)
            found |= {renamed or field.replace("_", "-") for renamed, field in fields}
        return found

    def documented(self, page: str) -> set[str]:
        """What the page has a paragraph or a table for."""
        text = (PAGES / page).read_text().replace("\\-", "-")
        terms = re.findall(r"^\.TP\n\.BR? (.*)$", text, re.MULTILINE)
        words = {word for term in terms for word in re.findall(r"[a-z][a-z-]*", term)}
        tables = re.findall(r'^\.S[HS] "?\[+([a-z-]+)', text, re.MULTILINE)
        return words | set(tables)

    def test_every_key_of_server_toml_is_explained(self) -> None:
        source = "spa-server/src/config/raw.rs"
        keys = self.keys_of(source, *re.findall(r"pub struct (Raw\w+) \{", (ROOT / source).read_text()))
        self.assertGreater(len(keys), 45)
        self.assertEqual(self.documented("server.toml.5"), keys)

    def test_every_key_of_a_client_is_explained(self) -> None:
        text = "".join((ROOT / "keys/src" / name).read_text() for name in ("client.rs", "client/terms.rs"))
        keys = set(re.findall(r'\.(?:text|texts|flag|number)\(\s*"([a-z-]+)"', text))
        self.assertGreater(len(keys), 15)
        self.assertEqual(self.documented("spa-clients.d.5"), keys)

    def test_every_key_of_a_profile_is_explained(self) -> None:
        keys = self.keys_of("keys/src/profile/raw.rs", "Raw", "RawMembership", "RawService", "RawEnroll")
        keys |= self.keys_of("keys/src/profile/sealed.rs", "RawFile", "RawSealed")
        self.assertGreater(len(keys), 20)
        self.assertEqual(self.documented("spa-profile.5"), keys)


if __name__ == "__main__":
    unittest.main()
