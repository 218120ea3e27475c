"""The training images of one process, from the step at which it starts."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from training.input.data import Share
from training.input.source import Source
from training.loop.step import Element
from training.loop.train_job import TrainJob
from training.workdir import recovery
from training.workers.failures import DamagedRecord

STEPS_READ_AHEAD = 64  # at most, by the input pipeline
# Two batches wait on each device: one is used while the next arrives.
BATCHES_ON_DEVICE = 2


class TrainingStream:
    """Batches from `start_step` on; their order follows from the seed and the step alone."""

    def __init__(self, job: TrainJob, source: Source, start_step: int) -> None:
        self._config = job.config
        self._source = source
        self._start_step = start_step
        self._seed = recovery.data_seed(job.workdir, job.config.seed, start_step)

    def iterator(self, strategy: tf.distribute.Strategy) -> Iterator[Element]:
        """Return the batches for all replicas of this process."""
        iterator: Iterator[Element] = iter(
            strategy.distribute_datasets_from_function(
                self._batches,
                tf.distribute.InputOptions(experimental_per_replica_buffer_size=BATCHES_ON_DEVICE),
            )
        )
        return iterator

    def first_damaged(self, step: int, num_steps: int, global_batch: int) -> DamagedRecord | None:
        """Return the first damaged record that could have been read.

        Raises:
            DataError: More damaged records were replaced than the config allows; names them.

        Args:
            step: Updates made before the failure.
            num_steps: Updates that were to be made.
            global_batch: Images per update.
        """
        if self._source.files is None:
            return None
        first = step * global_batch
        positions = range(first, first + (num_steps + STEPS_READ_AHEAD) * global_batch)
        self._source.files.raise_if_too_many_corrupt()
        return self._source.files.first_damaged(positions, self._seed)

    def _batches(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = Share.of(context)
        return self._source.batches(self._config, share, self._start_step, self._seed)
