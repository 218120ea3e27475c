"""What the documentation says of the tests is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cli.registry import COMMANDS

ROOT = Path(__file__).parent.parent
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
