"""Lists for people: rows as a table in a terminal, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

PIPED_WIDTH = 10_000  # columns; nothing is cut off for a program that reads lines


def show(rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    """Print rows that have the same keys, on stdout.

    Args:
        rows: Values by column.
        as_json: Print one JSON line, a list of objects, instead of a table.
    """
    if as_json:
        print(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)
