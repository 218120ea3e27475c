"""The training step of a run on this machine's devices, to be timed on any input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from training.config import RunConfig
from training.input.data import SINGLE_PROCESS, Share
from training.input.source import Source
from training.loop.step import TrainSteps
from training.optimization.state import TrainingState

Run = Callable[[int], object]  # does that many steps
Pace = Callable[[Run], float]  # decides how many steps to do; returns steps per second

WARM_UP = 0.2  # of the time: buffers fill, and tf.data tunes itself


def exactly(num_steps: int) -> Pace:
    """Return the pace that times `num_steps` steps, after some until all buffers are full."""

    def steps_per_second(run: Run) -> float:
        run(max(2, num_steps // 4))
        since = time.monotonic()
        run(num_steps)
        return num_steps / (time.monotonic() - since)

    return steps_per_second


def during(seconds: float, clock: Callable[[], float] = time.monotonic) -> Pace:
    """Return the pace that takes about `seconds` of the clock, and at least two steps."""

    def steps_per_second(run: Run) -> float:
        _run_for(run, WARM_UP * seconds, clock)
        num_steps, elapsed_seconds = _run_for(run, (1 - WARM_UP) * seconds, clock)
        return num_steps / elapsed_seconds

    return steps_per_second


def _run_for(run: Run, seconds: float, clock: Callable[[], float]) -> tuple[int, float]:
    """Run in calls of growing length; return the number of steps and the seconds they took."""
    done, since = 0, clock()
    count = 1
    while True:
        run(count)
        done += count
        elapsed = clock() - since
        count = min(2 * done, int((seconds - elapsed) * done / elapsed))
        if count < 1:
            return done, elapsed


class Bench:
    """A training state on all devices of this machine, and its inner loop.

    Attributes:
        source: The records, from which other inputs can be derived.
    """

    def __init__(self, config: RunConfig, source: Source) -> None:
        self._config = config
        self._strategy = tf.distribute.MirroredStrategy()
        self.source = source
        with self._strategy.scope():
            state = TrainingState(
                config,
                num_outputs=len(self.source.manifest.classes) + 1,
                num_examples=self.source.train.num_examples,
                num_replicas=self.num_devices,
            )
        self._train_steps = TrainSteps(self._strategy, state, config)

    @property
    def num_devices(self) -> int:
        """Number of devices, one replica on each."""
        return int(self._strategy.num_replicas_in_sync)

    def first_step_seconds(self, source: Source) -> float:
        """Return how long the first step takes, in which the step is traced and compiled."""
        iterator = self._iterator(source)
        since = time.monotonic()
        self._train_steps.run(iterator, 1)
        return time.monotonic() - since

    def images_per_second_per_device(self, source: Source, pace: Pace) -> float:
        """Return the speed of the step on the images of `source`."""
        iterator = self._iterator(source)
        steps_per_second = pace(lambda count: self._train_steps.run(iterator, count))
        return self._config.training.batch_per_replica * steps_per_second

    def images_per_core_second(self, pace: Pace) -> float:
        """Return the number of images that one core reads, decodes and resizes in a second."""
        iterator = iter(self.source.batches(self._config, SINGLE_PROCESS, 0))
        next(iterator)
        batches = 0

        def read(count: int) -> None:
            nonlocal batches
            batches += count
            for _ in range(count):
                next(iterator)

        since = time.process_time()
        pace(read)
        seconds = time.process_time() - since
        return self._config.training.batch_per_replica * batches / seconds

    def _iterator(self, source: Source) -> Iterator[Any]:
        batches = self._strategy.distribute_datasets_from_function(
            lambda context: source.batches(self._config, Share.of(context), 0)
        )
        return iter(batches)
