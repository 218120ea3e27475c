"""The end of a process that was asked to stop: at once, but never between two files."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator

from preprocessing.errors import RETRY_EXIT_CODE

logger = logging.getLogger(__name__)

_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_writing = threading.Lock()


def end_when_interrupted() -> None:
    """End the process by SIGTERM and Ctrl-C from now on, also during a long device call.

    Python's own handlers wait until a call of TensorFlow returns. Call this before TensorFlow
    starts any thread, because threads inherit the mask of signals.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_wait_for_signal, daemon=True, name="interruption").start()


def _wait_for_signal() -> None:
    signal.sigwait(_SIGNALS)
    with _writing:
        logger.error("mobilenet: interrupted; run the same command again")
        sys.stderr.flush()
        os._exit(RETRY_EXIT_CODE)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal wait until the block has ended."""
    with _writing:
        yield
