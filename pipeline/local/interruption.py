"""Interruption: the first Ctrl-C ends a command in order, the second at once.

Python's own handler does not suffice: it waits while the main thread is in a long call, what it
raises may come out of any line, also of an import or a destructor, and libraries print, wrap or
swallow it. Here a thread hears of the signals. It says the one line, makes the process mute, and
ends it with all its children after a bounded time. Until then the main thread unwinds, which gives
temporary files, locks and leases back. Without that nothing is damaged either, because everything
that a command writes is complete or absent.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType

from pipeline.local import descendants
from preprocessing.errors import RETRY_EXIT_CODE
from preprocessing.terminal import TERMINAL_SIGNALS

INTERRUPTED = "interrupted; run the same command again, it continues"
MESSAGE = f"mobilenet: {INTERRUPTED}"
UNWINDING_SECONDS = 3.0  # from the signal to the end of the process
KILLING_SECONDS = 0.5  # until the children are gone
LOOK_SECONDS = 0.05


class _Guard:
    """What this process knows of its interruption, and the thread that hears of it."""

    def __init__(self) -> None:
        self.seconds = UNWINDING_SECONDS
        self.shares_stderr = False
        self._lock = threading.RLock()  # the handler may interrupt its own thread
        self.interrupted = self._raised = False
        self._exit_code: int | None = None  # of a command that is done
        self._stderr = os.dup(2)  # as it was at the start: `import_tensorflow` replaces it
        self._heard, self._hearing = os.pipe()
        os.set_blocking(self._hearing, False)

    def begin(self) -> None:
        """Start to hear signals."""
        threading.excepthook = _print_at_once
        atexit.register(self._end)  # the first to be registered is the last to be called
        # The thread must not take signals of the main thread, which may be blocked there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        threading.Thread(target=self._hear, daemon=True, name="interruption").start()
        self.take_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def take_signals(self) -> None:
        """Hear the terminal's signals, except one that is ignored, for example by nohup."""
        signal.set_wakeup_fd(self._hearing, warn_on_full_buffer=False)
        for number in TERMINAL_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._unwind)

    def settle(self, exit_code: int) -> None:
        """Let a signal end the process with `exit_code` from now on, unless one came before."""
        with self._lock:
            self.leave_if_interrupted()
            self._exit_code = exit_code
        self.take_signals()  # a training has taken them

    def leave_if_interrupted(self) -> None:
        """End the process if it was interrupted, whatever libraries have made of that."""
        with self._lock:  # until the line is written
            if self.interrupted:
                _leave(RETRY_EXIT_CODE)

    def speak_last(self, message: str) -> None:
        """Say `message`, and let nobody say more."""
        with self._lock:
            self.leave_if_interrupted()
            sys.stderr.flush()
            _mute()
            self._say(message, new=False)

    def _end(self) -> None:
        """End a command that is done, without taking apart what it has imported.

        That takes up to a second, and a signal then would change the exit code.
        """
        if self._exit_code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._exit_code)

    def _unwind(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt in the main thread, once."""
        if not self._raised:
            self._raised = True  # first, because this may be interrupted by the next signal
            self.interrupt()
            raise KeyboardInterrupt

    def _hear(self) -> None:
        self._await_terminal_signal()
        threading.Thread(target=self._keep_time, daemon=True, name="unwinding").start()
        self.interrupt()
        while self._await_terminal_signal() != signal.SIGINT:
            pass  # a closing terminal sends SIGHUP more than once; only Ctrl-C is impatience
        _leave(RETRY_EXIT_CODE)

    def _await_terminal_signal(self) -> int:
        while (number := os.read(self._heard, 1)[0]) not in TERMINAL_SIGNALS:
            pass
        return number

    def interrupt(self) -> None:
        """Say that the command is interrupted, and let nobody say more; once."""
        with self._lock:
            if self._exit_code is not None:
                _leave(self._exit_code)
            if not self.interrupted:
                self.interrupted = True
                _mute()
                self._say(MESSAGE, new=self.shares_stderr)

    def _say(self, message: str, *, new: bool) -> None:
        """Write `message` past the stderr of Python and of libraries."""
        line = _line(message, new=new).encode(errors="backslashreplace")
        with contextlib.suppress(OSError):  # of a terminal that is gone
            os.write(self._stderr, line)

    def _keep_time(self) -> None:
        started = time.monotonic()
        while time.monotonic() < started + self.seconds:
            time.sleep(LOOK_SECONDS)
        _leave(RETRY_EXIT_CODE)


_guard: _Guard | None = None


def listen() -> None:
    """Hear Ctrl-C and a closed terminal from now on; in the main thread, before long imports."""
    global _guard
    _guard = _Guard()
    _guard.begin()


def tell() -> bool:
    """Say that this process is interrupted, if it listens; return whether it does."""
    if _guard:
        _guard.interrupt()
    return _guard is not None


def is_interrupted() -> bool:
    """Return whether this process was interrupted; then it is mute and ends soon."""
    return _guard is not None and _guard.interrupted


def allow(seconds: float) -> None:
    """Let an interruption take so long, because a child has something to save."""
    if _guard:
        _guard.seconds = seconds


def share_stderr() -> None:
    """Begin the line of an interruption on a new line, because a child may show a progress bar."""
    if _guard:
        _guard.shares_stderr = True


def speak_last(message: str) -> bool:
    """Say `message` as the last line of this process, if it listens; return whether it does.

    Threads of libraries report that the job they belong to is gone, and would do so below it.
    """
    if _guard:
        _guard.speak_last(message)
    return _guard is not None


def settle(exit_code: int) -> None:
    """End a command that has come to its end: as interrupted, or so that no signal changes it."""
    if _guard:
        _guard.settle(exit_code)


def leave_if_interrupted() -> None:
    """End the process if it was interrupted, whatever libraries have made of that."""
    if _guard:
        _guard.leave_if_interrupted()


def _print_at_once(failed: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread in one piece, so that the last line is a line of its own."""
    if failed.exc_type is not SystemExit:
        text = traceback.format_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
        print("".join(text), end="", file=sys.stderr)


def _leave(exit_code: int) -> None:
    with contextlib.suppress(Exception):
        descendants.kill(KILLING_SECONDS)
    os._exit(exit_code)


def _mute() -> None:
    """Send to nowhere what this process prints to stderr, in Python and below it."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115  (open until the process ends)
    os.dup2(nowhere.fileno(), 2)
    sys.stderr = nowhere


def _line(message: str, *, new: bool) -> str:
    """Return `message` in the form of the log, on a new line if asked or below a progress bar.

    Modules may be missing or half imported, and importing them here could wait without end.
    """
    line = message
    with contextlib.suppress(Exception):
        new = new or len(sys.modules["tqdm"].tqdm._instances) > 0
    with contextlib.suppress(Exception):
        logging = sys.modules["logging"]
        record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, (), None)
        line = logging.getLogger("pipeline").handlers[0].format(record)
    return f"\n{line}\n" if new else f"{line}\n"
