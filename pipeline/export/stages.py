"""The stages of an export as functions, in this process or in others; TensorFlow is not imported.

Few images are converted and compared in this process, which is faster than starting others. For
many, one process converts, so that its memory is free again when the next ones compare.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.export.job import Converted, Export
from pipeline.export.metrics import InputContract
from pipeline.export.predictions import to_bytes
from pipeline.export.unfinished import Unfinished
from pipeline.local import messages
from pipeline.local.quiet import import_tensorflow
from preprocessing import limits
from preprocessing.worker_pool import worker_pool

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from pipeline.export.comparing import Comparison

FEW_CHUNKS = 8  # so many or fewer are compared in this process
# Peak memory of this process and of one that compares a network of any size, with 1,001 classes.
PARENT_BYTES, WORKER_BYTES = 256 << 20, 1920 << 20
MEMORY_SHARE = 0.95  # of what this process may use

_comparison: Comparison | None = None  # of this process


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one export.

    Attributes:
        comparing: The processes that compare; None for this one.
    """

    job: Export
    unfinished: Unfinished
    comparing: ProcessPoolExecutor | None

    def convert(self) -> Converted:
        """Write all files of an export and return what they are.

        Raises:
            CheckFailedError: A converted file is not what was asked for.
            DataError: The checkpoint or a record is damaged.
            UsageError: The run has no checkpoint.
        """
        if not self.comparing:
            return _convert(self.job, self.unfinished)
        with _processes(1) as pool:
            return pool.submit(_convert, self.job, self.unfinished).result()

    def compare(self, contract: InputContract, missing: Sequence[int]) -> Iterator[int]:
        """Compare the chunks that are missing, and yield the number of each that is finished.

        Raises:
            DataError: A record is damaged.
        """
        if not self.comparing:
            try:
                for number in missing:
                    yield _compare(self.job, self.unfinished, contract, number)
            finally:
                _forget()
            return
        tasks = [
            self.comparing.submit(_compare, self.job, self.unfinished, contract, number)
            for number in missing
        ]
        for task in as_completed(tasks):
            yield task.result()


@contextlib.contextmanager
def stages(job: Export, unfinished: Unfinished) -> Iterator[Stages]:
    """Yield the stages of an export; processes that they need end with the block.

    Raises:
        RetryError: A process was killed.
    """
    if job.num_chunks <= FEW_CHUNKS:
        yield Stages(job, unfinished, None)
        return
    num_workers = useful_workers(job.num_chunks)
    with _processes(num_workers) as comparing:
        for _ in range(num_workers):
            comparing.submit(_prepare)  # while another process converts
        yield Stages(job, unfinished, comparing)


def useful_workers(num_chunks: int) -> int:
    """Return one worker per core, or fewer if there is little to do or not the memory for them."""
    memory = int(limits.memory_bytes() * MEMORY_SHARE) - PARENT_BYTES
    return max(1, min(limits.num_cores(), memory // WORKER_BYTES, num_chunks // FEW_CHUNKS))


def _convert(job: Export, unfinished: Unfinished) -> Converted:
    import_tensorflow()
    from pipeline.export import converting
    from training.workers.failures import explained

    with explained(job.records):
        return converting.convert(job, unfinished)


def _compare(job: Export, unfinished: Unfinished, contract: InputContract, number: int) -> int:
    """Compare one chunk, keep the result, and return its number."""
    global _comparison
    import_tensorflow()
    from pipeline.export.comparing import Comparison
    from training.workers.failures import explained

    with explained(job.records):
        if _comparison is None:
            _comparison = Comparison(job, unfinished, contract)
        unfinished.write_chunk(number, to_bytes(_comparison.chunk(number)))
    return number


def _forget() -> None:
    global _comparison
    _comparison = None


@contextlib.contextmanager
def _processes(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield worker processes whose messages appear as if this process wrote them."""
    with (
        messages.received() as sent,
        worker_pool(num_workers, start=messages.send_to, arguments=(sent,)) as pool,
    ):
        yield pool


def _prepare() -> None:
    """Import what comparing takes, with one thread for TensorFlow: there is a process per core."""
    import_tensorflow()
    import tensorflow as tf

    from pipeline.export import comparing  # noqa: F401

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
