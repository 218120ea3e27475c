"""A process that is asked to stop, or is stuck, ends in bounded time, whatever it does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

GUARDED = """
import ctypes, os, signal, sys, time
from training.workers.watchdog import ProcessWatchdog, hold_signals, raise_if_signalled
hold_signals()
dog = ProcessWatchdog(grace_seconds={grace})
def go(): print("go", flush=True)
{body}
"""
STUCK = "dog.listen(); go()\nwhile True: time.sleep(1)"


def run(body: str, *signals: signal.Signals, grace: float = 60) -> tuple[int, str]:
    """Return exit code and stderr of a process that gets the first signal after it printed `go`.

    The second signal is sent until the process is gone, because two equal pending signals are one.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", GUARDED.format(body=body, grace=grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    assert child.stdout.readline() == "go\n"
    for number in signals[:1]:
        child.send_signal(number)
    while len(signals) > 1 and child.poll() is None:
        time.sleep(0.1)
        child.send_signal(signals[1])
    _, err = child.communicate(timeout=120)
    return child.returncode, err


def test_a_step_that_does_not_end_ends_the_process_with_143_stacks_first() -> None:
    code, err = run("dog.expect('3 training steps', 0.5)\ngo()\nsignal.pause()")
    assert code == 143
    assert "3 training steps took longer than 0.5 s" in err
    assert '<string>", line' in err  # where it was


def test_a_step_in_time_is_forgotten() -> None:
    body = "dog.expect('a step', 5); dog.expect('a long step', 600); go()"
    assert run(f"{body}\ntime.sleep(6)\nos._exit(0)")[0] == 0


def test_code_that_never_lets_python_run_is_ended_too() -> None:
    """The creation of a MultiWorkerMirroredStrategy is such code. A signal ends it: a retry."""
    body = "import training.workers.watchdog as g; g.LAST_RESORT_SECONDS = 2\n"
    body += "dog.expect('x', 0.5)\ngo()\nctypes.PyDLL(None).pause()"
    code, err = run(body)
    assert code == -signal.SIGALRM
    assert '<string>", line' in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_that_the_loop_sees(number: signal.Signals) -> None:
    body = "dog.listen(); go()\nwhile not dog.stop_requested: time.sleep(0.01)\nos._exit(7)"
    assert run(body, number)[0] == 7


def test_a_request_that_is_not_answered_ends_the_process_within_the_grace() -> None:
    code, err = run(STUCK, signal.SIGTERM, grace=2)
    assert code == 143
    assert "no checkpoint within 2 s of the signal (loop.grace_seconds)" in err


def test_ctrl_c_twice_means_now() -> None:
    assert run(STUCK, signal.SIGINT, signal.SIGINT)[0] == 143


def test_a_signal_before_anyone_listens_is_not_lost() -> None:
    body = "go()\nwhile signal.SIGTERM not in signal.sigpending(): time.sleep(0.01)\n"
    for then in ("raise_if_signalled()", "dog.listen(); time.sleep(0.2)\nassert False"):
        wanted = "StoppedError" if "raise" in then else "AssertionError"
        code, err = run(body + then, signal.SIGTERM)
        assert (code, wanted in err) == (1, True)
    code, _ = run(
        f"{body}dog.listen()\nwhile not dog.stop_requested: time.sleep(0.01)\nos._exit(7)",
        signal.SIGTERM,
    )
    assert code == 7
