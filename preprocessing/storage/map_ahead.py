"""Concurrent requests to a bucket whose results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from preprocessing import storage

REQUESTS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], path: str
) -> Iterator[Result]:
    """Map items in order, some of them ahead of the consumer when `path` is a URL.

    On a URL the time is spent waiting for answers; locally this is `map`.
    """
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
