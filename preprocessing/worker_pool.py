"""A pool of worker processes on this machine; they end when their parent does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from preprocessing.errors import RETRY_EXIT_CODE, RetryError


@contextlib.contextmanager
def worker_pool(
    num_workers: int,
    *,
    preload: str = "",
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool; when the block ends, work that has not begun is dropped.

    Args:
        num_workers: The number of processes.
        preload: A module that all workers share, because they are forked from one process that
            has imported it. It must start no threads. Without it every worker starts from nothing.
        start: What each worker calls first.
        arguments: The arguments of `start`.

    Raises:
        RetryError: A worker was killed.
    """
    context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
    if preload:
        context.set_forkserver_preload([preload])
    pool = ProcessPoolExecutor(
        num_workers, context, initializer=_begin, initargs=(start, arguments)
    )
    with loss_explained():
        try:
            yield pool
        finally:
            # Not by `with pool`, which would take back that work is dropped.
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def loss_explained() -> Iterator[None]:
    """Say what a pool reports whose worker was killed in words that help.

    Raises:
        RetryError: A worker was killed.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise RetryError(
            "a worker process was killed (out of memory?); run the same command again, it continues"
        ) from error


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    _follow_parent()
    if start:
        start(*arguments)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end this worker as soon as the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(RETRY_EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()
