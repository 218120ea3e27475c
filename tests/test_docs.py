"""What the documentation says of the tests is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cli.entry_point import parse
from pipeline.cli.registry import COMMANDS
from tests.runbook import command_lines, words

ROOT = Path(__file__).parent.parent
RUNBOOK = ROOT / "docs" / "operations.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


@pytest.mark.parametrize(
    "line", [line for line in command_lines(RUNBOOK) if line.startswith("mobilenet ")]
)
def test_mobilenet_takes_every_command_line_of_the_runbook(line: str) -> None:
    name, *flags = words(line)[1:]
    assert name in {command.name for command in COMMANDS}
    if flags:
        assert parse([name, *flags]).command == name


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
