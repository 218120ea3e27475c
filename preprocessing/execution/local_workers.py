"""Worker processes of this machine, without Beam; they end when their parent does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from preprocessing.errors import RETRY_EXIT_CODE, RetryError
from preprocessing.ingest_plan import ShardPlan
from preprocessing.shards import ShardWriter

_pool: ProcessPoolExecutor | None = None  # set while the block of `worker_processes` runs


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def worker_processes(num_workers: int) -> Iterator[None]:
    """Have `num_workers` processes ready for `write_shards` while the block runs."""
    global _pool
    # Workers are forked from a separate process, which has no threads and no Beam.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(num_workers, context, initializer=_follow_parent) as _pool:
        try:
            yield
        finally:
            _pool.shutdown(wait=False, cancel_futures=True)
            _pool = None


def write_shards(writer: ShardWriter, plans: Iterable[ShardPlan]) -> Iterator[Counter[str]]:
    """Write shards on all workers, and yield the counts of each when it is finished.

    Raises:
        RetryError: A worker was killed.
    """
    assert _pool, "only inside worker_processes"
    try:
        for future in as_completed([_pool.submit(writer.write, plan) for plan in plans]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RetryError(
            "a worker process was killed (out of memory?); run the same command again, it continues"
        ) from error


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end this worker as soon as the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(RETRY_EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()
