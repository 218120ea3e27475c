"""What the trainer prints is what `jobs` reads; tests/cluster reads it off real pods."""

from __future__ import annotations

import math
from pathlib import Path

from pipeline.cluster.progress import parse

README = Path(__file__).parents[3] / "README.md"


def test_the_line_that_the_readme_shows_is_understood() -> None:
    progress = parse(README.read_text())
    assert progress is not None
    assert (progress.step, progress.num_steps) == (435, 449)
    assert (progress.loss, progress.images_per_second, progress.eta_seconds) == (0.5882, 817, 2)


def test_the_last_line_counts_and_without_one_nothing_is_known() -> None:
    lines = [f"train: step {step}/9  loss nan  top-1 0.1" for step in (1, 5)]
    progress = parse("\n".join(lines))
    assert progress is not None
    assert progress.step == 5
    assert math.isnan(progress.loss)
    assert math.isnan(progress.eta_seconds)
    assert parse("nothing of the kind") is None
