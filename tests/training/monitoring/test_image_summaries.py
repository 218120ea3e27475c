"""Pictures of mistakes show the names of classes as they are, whatever the names hold."""

from __future__ import annotations

import numpy as np
import pytest

from training.monitoring.image_summaries import captioned_views, confusion

NAMES = (
    "$a$",
    "$\\frac$",
    "$}$",
    "50 $ or 60 $",
    "a|b",
    "<b>",
    "{",
    "_^_",
    "\\",
    "ก\u200cิ",
    "\x85",
)


@pytest.mark.parametrize("num_classes", [len(NAMES), 40])
def test_a_name_is_text_and_no_markup(num_classes: int) -> None:
    names = ["background", *(NAMES * 4)[:num_classes]]
    labels = np.arange(1, num_classes + 1)
    picture = confusion(labels, np.roll(labels, 1), names)
    assert picture.dtype == np.uint8
    plain = confusion(labels, np.roll(labels, 1), [f"class {i}" for i in range(len(names))])
    assert not np.array_equal(picture, plain)


def test_captions_of_any_text_are_drawn() -> None:
    views = [np.zeros((32, 32, 3), np.float32)] * len(NAMES)
    assert captioned_views(views, [f"{name}\n{name}" for name in NAMES]).shape[2] == 3
