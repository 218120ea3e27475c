"""The table is the published one, figure for figure."""

from __future__ import annotations

from pathlib import Path

from pipeline.publish.pages import accuracy_table

README = Path(__file__).parents[3] / "data" / "published_table.md"


def test_every_row_is_the_published_one_digit_for_digit() -> None:
    """tests/data/published_table.md holds the rows of slim's README without their links."""
    expected = [line for line in README.read_text().splitlines() if "mobilenet_v2" in line]
    ours = [line for line in accuracy_table.published().splitlines() if "mobilenet_v2" in line]
    assert ours == expected
    assert len(ours) == 22


def test_v1_shows_what_was_published_and_what_the_code_computes() -> None:
    rows = [line for line in accuracy_table.published().splitlines() if "mobilenet_v1" in line]
    assert len(rows) == 16
    assert "| mobilenet_v1_1.0_224 | 569 | 568741376 | 4.24 | 70.9 | 89.9 |" in rows
    wrong = [row.split(" | ")[0][2:] for row in rows if "not what the code computes" in row]
    assert wrong == [
        "mobilenet_v1_0.75_224",
        "mobilenet_v1_0.75_192",
        "mobilenet_v1_0.75_160",
        "mobilenet_v1_0.75_128",
        "mobilenet_v1_0.5_224",
        "mobilenet_v1_0.25_192",
    ]
