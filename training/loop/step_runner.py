"""Device calls of bounded length between two milestones; the host can act after each of them.

The speed decides how the steps are cut into calls; the cuts do not change the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from training.config import LoopConfig
from training.metrics.step_means import StepMeans, mean_of
from training.workers.collectives import Collectives
from training.workers.watchdog import Watchdog

if TYPE_CHECKING:
    import tensorflow as tf


class Steps(Protocol):
    """The inner loop."""

    def run(self, iterator: Iterator[tuple[tf.Tensor, ...]], num_steps: int) -> StepMeans:
        """Make updates and return their means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """The result of some steps, which are fewer than requested after a stop."""

    steps: int
    means: StepMeans
    seconds_per_step: float
    stopped: bool


class StepRunner:
    """The runner of the inner loop in calls of about `max_call_seconds`, equal on all workers."""

    def __init__(
        self,
        steps: Steps,
        collectives: Collectives,
        watchdog: Watchdog,
        limits: LoopConfig,
        *,
        on_call: Callable[[int, float], None] = lambda num_steps, loss: None,
    ) -> None:
        self._steps = steps
        self._collectives = collectives
        self._watchdog = watchdog
        self._limits = limits
        self._on_call = on_call
        self._is_first = True
        self._next = 1  # steps of the next call

    def run(self, iterator: Iterator[tuple[tf.Tensor, ...]], num_steps: int) -> StepResult:
        """Make `num_steps` steps, or stop between two calls when any worker was asked to."""
        parts: list[tuple[int, StepMeans]] = []
        timed = [0, 0.0]
        done, stopped = 0, False
        while done < num_steps and not stopped:
            count = min(self._next, num_steps - done)
            if not self._is_first:  # building the graph is part of the start
                self._watchdog.expect(
                    f"{count} training steps (loop.step_timeout_seconds)",
                    self._limits.step_timeout_seconds,
                )
            started = time.monotonic()
            means = self._steps.run(iterator, count)
            seconds = time.monotonic() - started
            mean_seconds, requests = self._collectives.means(
                [seconds, self._watchdog.stop_requested]
            )
            parts.append((count, means))
            done += count
            stopped = requests > 0
            if not self._is_first or num_steps == 1:
                timed = [timed[0] + count, timed[1] + mean_seconds]
                limit = int(self._limits.max_call_seconds * count / mean_seconds)
                self._next = max(1, min(2 * self._next, limit))
            self._is_first = False
            self._on_call(count, means.loss)
        if not timed[0]:
            timed = [done, mean_seconds]
        return StepResult(
            steps=done,
            means=mean_of(parts),
            seconds_per_step=timed[1] / timed[0],
            stopped=stopped,
        )
