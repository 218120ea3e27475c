"""Child processes that never outlive their parent: the demo's stages and local workers.

A child gets a pipe as standard input and ends when the pipe does, so that even a parent
killed by SIGKILL leaves nobody behind who still writes into its folders.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from preprocessing.errors import RETRY_EXIT_CODE, PermanentError, RetryError

DIES_WITH_PARENT = "MOBILENET_DIES_WITH_PARENT"
RESERVE_SECONDS = 5.0  # after the grace, before SIGKILL
# Between the first worker's failure and SIGKILL for the others: they cannot go on without
# it, but may be about to say the same.
LAST_WORDS_SECONDS = 2.0


def die_with_parent() -> None:
    """In a child that `start` made: exit when the parent is gone, even if it went before this."""
    if not os.environ.pop(DIES_WITH_PARENT, None):  # not for what this process starts otherwise
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(RETRY_EXIT_CODE)

    if select.select([0], [], [], 0)[0]:  # nobody writes there: it has ended already
        os._exit(RETRY_EXIT_CODE)
    threading.Thread(target=wait, daemon=True).start()


def start(
    arguments: Sequence[str], environment: Mapping[str, str], *, stdout: int
) -> subprocess.Popen[str]:
    """Start `mobilenet ARGUMENTS` as a child; `stdout` as `subprocess` takes it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        text=True,
        env={**os.environ, **environment, DIES_WITH_PARENT: "1"},
    )


def failure(name: str, code: int) -> Exception:
    """The error that a child's exit code stands for; what is permanent it has explained itself."""
    if code < 0 or code >= 128:
        return RetryError(f"{name} was interrupted; run the same command again, it continues")
    error = PermanentError()
    error.exit_code = code
    return error


def run_workers(arguments: Sequence[str], num_workers: int, grace_seconds: float) -> int:
    """Run `mobilenet ARGUMENTS` as `num_workers` local workers that know of each other.

    SIGTERM and Ctrl-C are passed on; the workers have `grace_seconds` to save and end.

    Returns:
        0 when all are done; otherwise the exit code that explains it best: a
        permanent one (1..127) if any worker ended so, else "retry" (143).
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(num_workers)]
    threads = str(max(1, (os.cpu_count() or 1) // num_workers))
    workers = [
        start(
            arguments,
            {
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                ),
                "TF_NUM_INTRAOP_THREADS": threads,
            },
            stdout=subprocess.DEVNULL,  # this process reports for all
        )
        for index in range(num_workers)
    ]

    def forward(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        _end(workers, grace_seconds + RESERVE_SECONDS)
        os._exit(RETRY_EXIT_CODE)

    previous = {
        number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        codes = _wait_for_all(workers)
    finally:
        _end(workers, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
    permanent = [code for code in codes if 0 < code < 128]
    if permanent:
        return permanent[0]
    return RETRY_EXIT_CODE if any(codes) else 0


def _wait_for_all(workers: Sequence[subprocess.Popen[str]]) -> list[int]:
    """Exit codes once all have ended; the first failure ends the others."""
    while any(worker.poll() is None for worker in workers):
        if any(worker.poll() for worker in workers):
            _end(workers, LAST_WORDS_SECONDS)
        time.sleep(0.1)
    return [worker.returncode for worker in workers]


def _end(workers: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Wait that long, then kill; everything they write is complete or not there."""
    deadline = time.monotonic() + seconds
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
