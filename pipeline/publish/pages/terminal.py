"""Markdown tables of this project, drawn for a terminal."""

from __future__ import annotations

import re
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
NAME_STYLE = "cyan"


def shown(markdown: str, stream: TextIO) -> str:
    """Return tables as `stream` shows them best: drawn in a terminal, in Markdown elsewhere.

    A table that is too wide for the terminal becomes a list. `NO_COLOR` is honoured.
    """
    if not stream.isatty():
        return markdown
    console = Console(file=stream, highlight=False)
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.strip()]
    with console.capture() as capture:
        for block in blocks:
            title, _, *rows = map(_cells, block)
            console.print(_fitting(console, title, rows))
    return capture.get()


def _cells(line: str) -> list[str]:
    return [LINK.sub(r"\1", cell.strip()) for cell in line.strip().strip("|").split("|")]


def _fitting(console: Console, title: list[str], rows: list[list[str]]) -> RenderableType:
    titles = [text.replace("Classification ", "").replace(" Accuracy", "") for text in title]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for position, text in enumerate(titles):
        is_name = position == 0
        table.add_column(
            text,
            style=NAME_STYLE if is_name else None,
            justify="left" if is_name else "right",
            vertical="bottom",
            no_wrap=is_name,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    if Measurement.get(console, console.options.update(max_width=10_000), table).minimum <= (
        console.width
    ):
        return table
    return Group(*(_listed(titles, row) for row in rows))


def _listed(titles: list[str], row: list[str]) -> RenderableType:
    """Return one row of a table as lines."""
    figures = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for title, figure in zip(titles[1:], row[1:], strict=True):
        figures.add_row(Text(title), Text(figure))
    return Group(Text(row[0], style=NAME_STYLE), figures, "")
