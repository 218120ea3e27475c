"""Worker processes of this machine that write shards without Beam."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from preprocessing.ingest_plan import ShardPlan
from preprocessing.shards import ShardWriter
from preprocessing.worker_pool import loss_explained, worker_pool

_pool: ProcessPoolExecutor | None = None  # set while the block of `worker_processes` runs


@contextlib.contextmanager
def worker_processes(num_workers: int) -> Iterator[None]:
    """Have `num_workers` processes ready for `write_shards` while the block runs."""
    global _pool
    # Workers are forked from a separate process, which has no threads and no Beam.
    with worker_pool(num_workers, preload=__name__) as _pool:
        try:
            yield
        finally:
            _pool = None


def write_shards(writer: ShardWriter, plans: Iterable[ShardPlan]) -> Iterator[Counter[str]]:
    """Write shards on all workers, and yield the counts of each when it is finished.

    Raises:
        RetryError: A worker was killed.
    """
    assert _pool, "only inside worker_processes"
    with loss_explained():
        for future in as_completed([_pool.submit(writer.write, plan) for plan in plans]):
            yield future.result()
