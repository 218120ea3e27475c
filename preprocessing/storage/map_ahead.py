"""Several requests to a bucket at a time, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from preprocessing import storage

REQUESTS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def concurrently(
    function: Callable[[Item], Result], items: Iterable[Item], path: str
) -> Iterator[Result]:
    """`map`, some items ahead of its consumer when `path` is a URL, where waiting dominates."""
    if not storage.is_remote(path):
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(REQUESTS)
    try:
        running: deque[Future[Result]] = deque()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == 2 * REQUESTS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
