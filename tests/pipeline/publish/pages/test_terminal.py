"""The table in terminals of any width, and in pipes."""

from __future__ import annotations

import re

import pytest

from pipeline.publish.pages import accuracy_table
from tests.conftest import mobilenet
from tests.terminals import shown_in_a_terminal

COLOR = re.compile(r"\x1b\[[0-9;]*m")
TABLE = ("-m", "pipeline", "table")


@pytest.mark.parametrize("columns", [40, 60, 90, 200])
def test_every_figure_is_shown_whole_in_a_terminal(columns: int) -> None:
    shown = COLOR.sub("", shown_in_a_terminal(*TABLE, columns=columns))
    lines = shown.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    words = shown.split()
    for row in accuracy_table.published().splitlines():
        if row.startswith("| mobilenet"):
            for word in row.replace("|", " ").split():
                assert word in words


def test_colors_can_be_refused() -> None:
    assert re.search(r"\x1b\[[0-9;]*3\dm", shown_in_a_terminal(*TABLE, columns=90))
    plain = shown_in_a_terminal(*TABLE, columns=90, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*[349]\dm", plain)


def test_a_pipe_gets_markdown() -> None:
    assert mobilenet("table").out == accuracy_table.published()
