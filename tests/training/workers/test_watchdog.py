"""A process that is asked to stop, or that is stuck, is gone in bounded time, whatever it does."""

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


def run(body: str, *signals: signal.Signals, grace: float = 60) -> tuple[int, str, float]:
    """Exit code, stderr, and seconds from `go` to the end, at which the first signal is sent.

    A second one is sent until the process is gone, because two of a kind that wait are one.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", GUARDED.format(body=body, grace=grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    assert child.stdout.readline() == "go\n"
    started = time.monotonic()
    for number in signals[:1]:
        child.send_signal(number)
    while len(signals) > 1 and child.poll() is None and time.monotonic() < started + 60:
        time.sleep(0.1)
        child.send_signal(signals[1])
    _, err = child.communicate(timeout=60)
    return child.returncode, err, time.monotonic() - started


def test_a_step_that_does_not_end_ends_the_process_with_143_stacks_first() -> None:
    code, err, _ = run("dog.expect('3 training steps', 0.5)\ngo()\ntime.sleep(60)")
    assert code == 143
    assert "3 training steps took longer than 0.5 s" in err
    assert '<string>", line' in err  # where it was


def test_a_step_in_time_is_forgotten() -> None:
    body = "go()\nfor _ in range(8): dog.expect('a step', 3); time.sleep(0.5)\nos._exit(0)"
    assert run(body)[0] == 0


def test_code_that_never_lets_python_run_is_ended_too() -> None:
    """As creating a MultiWorkerMirroredStrategy does; by a signal, which counts as a retry."""
    body = "import training.workers.watchdog as g; g.LAST_RESORT_SECONDS = 2\n"
    body += "dog.expect('x', 0.5)\ngo()\nctypes.PyDLL(None).pause()"
    code, err, _ = run(body)
    assert code == -signal.SIGALRM
    assert '<string>", line' in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_that_the_loop_sees(number: signal.Signals) -> None:
    body = "dog.listen(); go()\nwhile not dog.stop_requested: time.sleep(0.01)\nos._exit(7)"
    assert run(body, number)[0] == 7


def test_a_request_that_is_not_answered_ends_the_process_within_the_grace() -> None:
    code, err, seconds = run("dog.listen(); go()\ntime.sleep(60)", signal.SIGTERM, grace=2)
    assert code == 143
    assert "no checkpoint within 2 s of the signal (loop.grace_seconds)" in err
    assert seconds < 60


def test_ctrl_c_twice_means_now() -> None:
    assert run("dog.listen(); go()\ntime.sleep(60)", signal.SIGINT, signal.SIGINT)[0] == 143


def test_a_signal_before_anyone_listens_is_not_lost() -> None:
    body = "go()\nwhile signal.SIGTERM not in signal.sigpending(): time.sleep(0.01)\n"
    for then in ("raise_if_signalled()", "dog.listen(); time.sleep(0.2)\nassert False"):
        wanted = "StoppedError" if "raise" in then else "AssertionError"
        code, err, _ = run(body + then, signal.SIGTERM)
        assert (code, wanted in err) == (1, True)
    code, _, _ = run(
        f"{body}dog.listen()\nwhile not dog.stop_requested: time.sleep(0.01)\nos._exit(7)",
        signal.SIGTERM,
    )
    assert code == 7
