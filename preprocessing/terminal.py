"""Signals of the terminal, which reach every process of a command: Ctrl-C and a closed window.

The process that the user started answers them for all its children, which therefore do not hear
them: they would end in the middle of what their parent waits for, and each in its own words.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def unheard_by_children() -> Iterator[None]:
    """Start processes in this block; they and their children never hear `TERMINAL_SIGNALS`.

    This process hears them when the block has ended.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
