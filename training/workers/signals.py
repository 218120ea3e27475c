"""Signals through a pipe: a thread hears of them while TensorFlow keeps the interpreter busy."""

from __future__ import annotations

import os
import signal

from preprocessing.terminal import TERMINAL_SIGNALS

SIGNALS = (signal.SIGTERM, *TERMINAL_SIGNALS)


def signal_pipe() -> int:
    """Return a pipe that yields the number of every signal, of which `SIGNALS` do nothing else now.

    Python's own handlers wait until a call of TensorFlow returns. TensorFlow puts its own handler
    there when it creates a strategy, so call this afterwards, in the main thread. A signal of the
    terminal that is ignored, for example by nohup, stays ignored.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in SIGNALS:
        if number in TERMINAL_SIGNALS and signal.getsignal(number) == signal.SIG_IGN:
            continue
        signal.signal(number, lambda number, frame: None)
    return reading
