"""The end of a process that was asked to stop: at once, but never between two files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator

from pipeline.local import interruption
from preprocessing.errors import RETRY_EXIT_CODE
from training.workers.signals import SIGNALS, signal_pipe

logger = logging.getLogger(__name__)

_writing = threading.Lock()


def end_when_interrupted() -> None:
    """End the process by SIGTERM and Ctrl-C from now on, also during a long device call.

    A thread hears of signals through a pipe.
    """
    threading.Thread(
        target=_wait_for_signal, args=(signal_pipe(),), daemon=True, name="interruption"
    ).start()


def _wait_for_signal(pipe: int) -> None:
    while os.read(pipe, 1)[0] not in SIGNALS:
        pass
    with _writing:
        if not interruption.tell():
            logger.error("mobilenet: interrupted; run the same command again")
        sys.stderr.flush()
        os._exit(RETRY_EXIT_CODE)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal wait until the block has ended."""
    with _writing:
        yield
