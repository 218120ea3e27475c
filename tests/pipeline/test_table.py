"""The table is the published one, figure for figure."""

from __future__ import annotations

from pathlib import Path

from pipeline import table

README = Path(__file__).parent.parent / "data" / "published_table.md"


def test_every_row_is_the_published_one_digit_for_digit() -> None:
    """tests/data/published_table.md holds the rows of slim's README without their links."""
    expected = [line for line in README.read_text().splitlines() if "mobilenet_v2" in line]
    ours = [line for line in table.published().splitlines() if "mobilenet_v2" in line]
    assert ours == expected
    assert len(ours) == 22
