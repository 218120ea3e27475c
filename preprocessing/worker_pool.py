"""A pool of worker processes on this machine; they end when their parent does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from typing import Any

from preprocessing import extensions
from preprocessing.errors import RETRY_EXIT_CODE, RetryError
from preprocessing.terminal import unheard_by_children


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
    context = _context(preload)
    pool = ProcessPoolExecutor(
        num_workers, context, initializer=_begin, initargs=(start, arguments)
    )
    with loss_explained():
        try:
            yield pool
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.kill()  # nobody waits for the end of its work
            raise
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


def _context(preload: str) -> Any:
    """Return the context whose processes are forked from one that has only imported `preload`.

    That one is started here, because a process hears what the one that forks it hears.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload] if preload else [])
    before = sys.warnoptions[:]
    sys.warnoptions.append("ignore::UserWarning")  # it warns of what an interruption leaves behind
    try:
        resource_tracker.ensure_running()  # it lets this thread hear signals again, so it is first
    finally:
        sys.warnoptions[:] = before
    with unheard_by_children():
        forkserver.ensure_running()
    return context


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    _follow_parent()
    extensions.load()
    if start:
        start(*arguments)


def _follow_parent() -> None:
    """End this worker as soon as the parent ends."""
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(RETRY_EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()
