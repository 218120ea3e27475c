"""`jobs` reads the lines that the trainer prints; tests/cluster reads them from real pods."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

from pipeline.cluster.status.training_progress import parse

PICTURE = Path(__file__).parents[3] / "docs" / "pictures" / "demo.svg"  # README shows it


def test_the_line_that_the_readme_shows_is_understood() -> None:
    texts = (html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)", PICTURE.read_text()))
    line = next(text for text in texts if text.startswith("train:\N{NO-BREAK SPACE}step"))
    line = line.replace("\N{NO-BREAK SPACE}", " ")
    progress = parse(line)
    assert progress is not None
    assert line.startswith(f"train: step {progress.step}/{progress.num_steps}  ")
    assert f"  loss {progress.loss:.4f}  " in line
    assert f"  {progress.images_per_second:.0f} images/s  " in line
    assert f"  ETA {progress.eta_seconds:.0f} s  " in f"{line}  "


def test_the_last_line_counts_and_without_one_nothing_is_known() -> None:
    lines = [f"train: step {step}/9  loss nan  top-1 0.1" for step in (1, 5)]
    progress = parse("\n".join(lines))
    assert progress is not None
    assert progress.step == 5
    assert math.isnan(progress.loss)
    assert math.isnan(progress.eta_seconds)
    assert parse("nothing of the kind") is None
