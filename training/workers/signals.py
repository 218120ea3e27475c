"""Signals through a pipe: a thread hears of them while TensorFlow keeps the interpreter busy."""

from __future__ import annotations

import os
import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def signal_pipe() -> int:
    """Return a pipe that yields the number of every signal, of which `SIGNALS` do nothing else now.

    Python's own handlers wait until a call of TensorFlow returns. TensorFlow puts its own handler
    there when it creates a strategy, so call this afterwards, in the main thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: None)
    return reading
