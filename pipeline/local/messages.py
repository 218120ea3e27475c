"""The messages of this project's packages, from other processes to the logs of this one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

PACKAGES = ("preprocessing", "training", "pipeline")  # one logger each


@contextlib.contextmanager
def received() -> Iterator[Any]:
    """Yield a queue for `send_to`, whose messages appear as if this process wrote them."""
    import logging.handlers
    import multiprocessing

    messages = multiprocessing.get_context("spawn").Queue()
    listener = logging.handlers.QueueListener(messages, _ByName())
    listener.start()
    try:
        yield messages
    finally:
        listener.stop()


def send_to(messages: Any) -> None:
    """Send the messages of this process to the one that has `received` the queue."""
    import logging.handlers

    for name in PACKAGES:
        package = logging.getLogger(name)
        package.handlers[:] = [logging.handlers.QueueHandler(messages)]
        package.setLevel(logging.INFO)
        package.propagate = False


class _ByName(logging.Handler):
    """Give messages to the logger of this process that has the same name."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one message."""
        logging.getLogger(record.name).handle(record)
