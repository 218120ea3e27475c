"""A timing takes the time that it was given, and counts every step."""

from __future__ import annotations

import pytest

from pipeline.planning.bench import during


class Worker:
    """Steps that take a known time of a clock of their own."""

    def __init__(self, step_seconds: float) -> None:
        self.seconds = 0.0
        self.steps = 0
        self._step_seconds = step_seconds

    def run(self, count: int) -> None:
        self.steps += count
        self.seconds += count * self._step_seconds

    def clock(self) -> float:
        return self.seconds


@pytest.mark.parametrize("step_seconds", [0.001, 0.05, 1.5])
def test_a_timing_takes_its_time_and_finds_the_speed(step_seconds: float) -> None:
    worker = Worker(step_seconds)
    speed = during(20, worker.clock)(worker.run)
    assert speed == pytest.approx(1 / step_seconds)
    assert 20 - 2 * step_seconds <= worker.seconds <= 20 + 1e-6


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_steps_that_are_too_slow_are_timed_twice(seconds: float) -> None:
    worker = Worker(60)
    assert during(seconds, worker.clock)(worker.run) == pytest.approx(1 / 60)
    assert worker.steps == 2
