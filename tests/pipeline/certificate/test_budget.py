"""The parts of a certificate share its time, whatever each of them takes."""

from __future__ import annotations

import pytest

from pipeline.certificate.budget import PARTS, Budget


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("minutes", [0.1, 15, 60])
def test_parts_that_take_their_shares_take_the_whole_time(minutes: float) -> None:
    clock = Clock()
    budget = Budget(60 * minutes, PARTS, clock)
    shares = {}
    for part in PARTS:
        shares[part] = budget.share_seconds(part)
        clock.seconds += shares[part]
    assert sum(shares.values()) == pytest.approx(60 * minutes)
    for part, weight in PARTS.items():
        assert shares[part] == pytest.approx(60 * minutes * weight / sum(PARTS.values()))


@pytest.mark.parametrize("used", [0.0, 100.0, 800.0])
def test_what_a_part_leaves_or_exceeds_is_divided_between_the_rest(used: float) -> None:
    clock = Clock()
    budget = Budget(900, PARTS, clock)
    first, *rest = PARTS
    budget.share_seconds(first)
    clock.seconds += used
    total = 0.0
    for part in rest:
        total += budget.share_seconds(part)
        clock.seconds += budget.share_seconds(part)
    assert used + total == pytest.approx(900)


def test_no_time_is_left_after_the_end() -> None:
    clock = Clock()
    budget = Budget(900, PARTS, clock)
    clock.seconds += 5000
    assert all(budget.share_seconds(part) == 0 for part in PARTS)
