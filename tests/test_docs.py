"""What the documentation says of the tests is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.entry_point import parse, parser
from pipeline.cli.registry import COMMANDS
from preprocessing.records import schema
from tests.runbook import blocks, command_lines, words

ROOT = Path(__file__).parent.parent
RUNBOOK = ROOT / "docs" / "operations.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")],
    key=lambda page: page.relative_to(ROOT),
)
OF_THE_PROGRAM = ("mobilenet --help", "mobilenet COMMAND --help")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@by_page
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in NAMED.findall(page.read_text()):
        path = ROOT / file
        assert path.exists(), file
        assert not name or f"def {name}(" in path.read_text(), f"{file}::{name}"


def test_the_page_on_storage_speaks_of_every_command_that_takes_a_folder() -> None:
    said = (ROOT / "docs" / "storage.md").read_text()
    # On a cluster the folders are the overlay's.
    on_a_cluster = {"launch", "jobs", "logs", "stop", "resume", "watch", "doctor", "data-service"}
    missing = [c.name for c in COMMANDS if c.name not in on_a_cluster and f"`{c.name}" not in said]
    assert not missing


@by_page
def test_mobilenet_takes_every_command_line_in_the_code_blocks_of_a_page(page: Path) -> None:
    for line in (line for block in blocks(page) for line in block):
        if line.startswith("mobilenet "):
            name, *flags = words(line)[1:]
            assert parse([name, *flags]).command == name, line


@by_page
def test_a_page_names_commands_and_flags_that_exist(page: Path) -> None:
    """A sentence may leave out what a command requires."""
    known = flags_by_command()
    for line in command_lines(page):
        if line.startswith("mobilenet ") and line not in OF_THE_PROGRAM:
            name, *rest = words(line)[1:]
            assert name in known, line
            given = {word.partition("=")[0] for word in rest[: (*rest, "--").index("--")]}
            assert {flag for flag in given if flag.startswith("--")} <= known[name], line


def flags_by_command() -> dict[str, set[str]]:
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    return {
        name: {flag for action in own._actions for flag in action.option_strings}
        for name, own in dict(commands.choices or {}).items()
    }


@pytest.mark.parametrize(
    "line", [line for line in command_lines(RUNBOOK) if line.startswith("mobilenet ")]
)
def test_mobilenet_takes_every_command_line_of_the_runbook(line: str) -> None:
    name, *flags = words(line)[1:]
    assert name in {command.name for command in COMMANDS}
    if flags:
        assert parse([name, *flags]).command == name


@by_page
def test_make_and_python_know_the_other_programs_of_a_page(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^(?: {4}|```\n)make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE)
    assert {target for pair in named for target in pair if target} <= set(targets)
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists() or module == "benchmarks.NAME"


def test_the_page_on_formats_names_every_feature_of_a_record() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    features = {value for value in vars(schema).values() if str(value).startswith("image/")}
    assert len(features) > 10
    assert set(re.findall(r"`(image/[\w/]+)`", page)) == features


def test_the_table_of_commands_has_a_row_for_each_and_no_other() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    rows = re.findall(r"^\| `mobilenet ([\w-]+)", page, re.MULTILINE)
    assert rows == [command.name for command in COMMANDS]


@pytest.mark.parametrize("page", [TROUBLESHOOTING, RUNBOOK], ids=lambda page: page.name)
def test_every_message_that_a_page_explains_is_one_that_the_code_has(page: Path) -> None:
    messages = list(messages_of(ROOT))
    quoted = quoted_messages(page)
    assert len(quoted) > 20
    missing = [text for text in quoted if not any(pattern(text).search(m) for m in messages)]
    assert not missing


def test_every_refusal_of_a_cluster_is_explained() -> None:
    quoted = [
        pattern(text) for page in (TROUBLESHOOTING, RUNBOOK) for text in quoted_messages(page)
    ]
    refusals = [
        text
        for text in messages_of(ROOT / "pipeline" / "cluster" / "api")
        if text.startswith("cannot ") and "; " in text
    ]
    assert len(refusals) > 5
    assert not [text for text in refusals if not any(found.search(text) for found in quoted)]


def quoted_messages(page: Path) -> list[str]:
    """Return what the first column of the tables of messages quotes."""
    tables = re.findall(r"^\| message \|.*\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE)
    cells = [row.split("|")[1] for table in tables for row in table.splitlines()[1:]]
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]


def pattern(text: str) -> re.Pattern[str]:
    """Return what finds a message of which a page quotes parts, with dots between them."""
    return re.compile(".*".join(map(re.escape, re.split(r"\s*\.\.\.\s*", text))), re.DOTALL)


def messages_of(folder: Path) -> Iterator[str]:
    """Yield the texts of the code, with a NUL for every value in them, and the Makefile."""
    if folder == ROOT:
        yield (ROOT / "Makefile").read_text()
        for package in ("preprocessing", "training", "pipeline"):
            yield from messages_of(ROOT / package)
        return
    for path in folder.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "\0"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_runbook_says_which_of_its_lines_no_test_runs() -> None:
    page = RUNBOOK.read_text()
    (said,) = re.findall(r"^## What no test has run\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    lines = [line for line in command_lines(RUNBOOK) if not line.startswith("mobilenet ")]
    for line in lines:
        outside = [word for word in ("github.com", "port-forward") if word in line]
        if not line.startswith("kubectl"):
            outside.append(line.split(" ")[0])
        for word in outside:
            assert word in said, line
