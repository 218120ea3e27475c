"""Watchdogs: end a training process when it is asked to stop or makes no progress.

Measured on TensorFlow 2.21: SIGTERM is swallowed once a MultiWorkerMirroredStrategy exists,
creating one holds the interpreter lock while it waits for peers, and Python's own signal
handlers do not run while a step is on the device. Hence a thread that hears of signals
through a pipe, and below it timers of the C library that need no interpreter at all.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time

from preprocessing.errors import RETRY_EXIT_CODE, RetryError
from training.workers.signals import SIGNALS, signal_pipe

logger = logging.getLogger(__name__)

RESERVE_SECONDS = 1.0  # of the grace, to be gone before SIGKILL comes
# How much later the timer of last resort ends a process that holds the interpreter lock.
LAST_RESORT_SECONDS = 5.0


class StoppedError(RetryError):
    """The process was asked to stop, and ended in order."""


class Watchdog:
    """A watchdog that never acts: for a loop that runs inside another program."""

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return False

    def expect(self, activity: str, seconds: float) -> None:
        """Expect that `activity` takes at most `seconds` from now; forget the last expectation."""

    def keep(self, thing: object) -> None:
        """Do not take `thing` down before the process ends."""


class ProcessWatchdog(Watchdog):
    """Watches the whole process: the first of `SIGNALS` is a request, time limits are hard.

    Once in a process: its timers are the process's own, and stay armed until it is gone.

    Args:
        grace_seconds: From a request to stop until the process is gone.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._requested = threading.Event()
        self._deadline: tuple[float, str, float] | None = None
        self._changed = threading.Condition()
        self._kept: list[object] = []
        self.exit_code = RETRY_EXIT_CODE  # with which an overdue process ends
        threading.Thread(target=self._keep_time, daemon=True, name="watchdog").start()

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return self._requested.is_set()

    def expect(self, activity: str, seconds: float) -> None:
        """Expect that `activity` takes at most `seconds`; then end the process, stacks first."""
        last_resort = seconds + LAST_RESORT_SECONDS
        faulthandler.dump_traceback_later(last_resort - 1)
        signal.setitimer(signal.ITIMER_REAL, last_resort)  # ends it as SIGALRM does: 142, a retry
        with self._changed:
            self._deadline = (time.monotonic() + seconds, activity, seconds)
            self._changed.notify()

    def keep(self, thing: object) -> None:
        """Do not take `thing` down before the process ends: TensorFlow would wait for a peer."""
        self._kept.append(thing)

    def listen(self) -> None:
        """Hear signals from now on; after TensorFlow, which puts its own handler there."""
        threading.Thread(
            target=self._hear, args=(signal_pipe(),), daemon=True, name="termination"
        ).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _hear(self, pipe: int) -> None:
        interrupts = 0
        while True:
            number = os.read(pipe, 1)[0]
            interrupts += number == signal.SIGINT
            if interrupts > 1:
                _leave("interrupted twice", RETRY_EXIT_CODE)
            if number in SIGNALS and not self.stop_requested:
                self._requested.set()
                seconds = max(0.1, self._grace_seconds - RESERVE_SECONDS)
                late = (
                    f"no checkpoint within {self._grace_seconds:g} s of the signal "
                    "(loop.grace_seconds); the work since the last one is lost"
                )
                timer = threading.Timer(seconds, _leave, (late, RETRY_EXIT_CODE))
                timer.daemon = True
                timer.start()

    def _keep_time(self) -> None:
        with self._changed:
            while True:
                deadline = self._deadline
                wait = deadline[0] - time.monotonic() if deadline else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                elif deadline:
                    faulthandler.dump_traceback(all_threads=True)
                    _leave(
                        f"{deadline[1]} took longer than {deadline[2]:g} s; stacks above",
                        self.exit_code,
                    )


def hold_signals() -> None:
    """Let SIGTERM wait until `ProcessWatchdog.listen`; before TensorFlow starts any thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def raise_if_signalled() -> None:
    """Between `hold_signals` and `listen`: end here if SIGTERM is waiting.

    Raises:
        StoppedError: It is.
    """
    if signal.SIGTERM in signal.sigpending():
        raise StoppedError("terminated before the first step; run the same command to continue")


def _leave(reason: str, code: int) -> None:
    logger.error("mobilenet: %s; run the same command to continue", reason)
    sys.stderr.flush()
    os._exit(code)
