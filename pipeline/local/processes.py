"""Child processes that never outlive their parent: the demo's stages and local workers.

A child gets a pipe as standard input and ends when the pipe is closed. So even a parent that is
killed by SIGKILL leaves no process behind that still writes into its folders.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

from pipeline.local import interruption, own_network
from preprocessing import limits
from preprocessing.errors import RETRY_EXIT_CODE, PermanentError, RetryError
from preprocessing.terminal import unheard_by_children

logger = logging.getLogger(__name__)

SAFE_PATH = {"PYTHONSAFEPATH": "1"}  # modules in the current folder are nobody's business
DIES_WITH_PARENT = "MOBILENET_DIES_WITH_PARENT"
RESERVE_SECONDS = 5.0  # between the end of the grace period and SIGKILL
# Time between the first worker's failure and SIGKILL for the others. They cannot continue
# without it, but may be about to report the same failure.
LAST_WORDS_SECONDS = 2.0
EARLIER_SECONDS = 2.0  # than a worker's own limit

_is_child = False


def die_with_parent() -> None:
    """Make a child of `start` exit when its parent is gone, even if it is gone already."""
    global _is_child
    # The variable is removed because it is not meant for other children of this process.
    _is_child = bool(os.environ.pop(DIES_WITH_PARENT, None))
    if not _is_child:
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(RETRY_EXIT_CODE)

    if select.select([0], [], [], 0)[0]:  # nobody writes there, so the parent has ended
        os._exit(RETRY_EXIT_CODE)
    threading.Thread(target=wait, daemon=True).start()


def is_child() -> bool:
    """Return whether this process is a child of `start`, whose parent says that it was stopped."""
    return _is_child


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: int,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start `mobilenet ARGUMENTS` as a child.

    Args:
        arguments: The subcommand and its flags.
        environment: Variables that it gets besides those of this process.
        stdout: The argument of `subprocess.Popen`.
        prefix: What precedes the command, for example to enter another network.
    """
    interruption.share_stderr()
    with unheard_by_children():
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "pipeline", *arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            text=True,
            env={**os.environ, **environment, **SAFE_PATH, DIES_WITH_PARENT: "1"},
        )


def failure(name: str, code: int) -> Exception:
    """Return the error that a child's exit code stands for.

    A permanent error has no message, because the child has explained it.
    """
    if code < 0 or code >= 128:
        return RetryError(f"{name} was interrupted; run the same command again, it continues")
    error = PermanentError()
    error.exit_code = code
    return error


def run_workers(
    arguments: Sequence[str], num_workers: int, grace_seconds: float, *, outside: Sequence[str] = ()
) -> int:
    """Run `mobilenet ARGUMENTS` as `num_workers` local workers that know each other.

    SIGTERM and Ctrl-C make the workers save and end; they have `grace_seconds` for that.

    Args:
        arguments: The subcommand and its flags.
        num_workers: Number of workers.
        grace_seconds: Time to save and end.
        outside: What the workers need that is not on this machine. If it is nothing, nobody
            outside reaches them either.

    Returns:
        0 when all workers are done; otherwise a permanent exit code (1..127) if any worker ended
        with one, or else 143, which means retry.
    """
    ports = free_ports(num_workers)
    with _network(ports, outside) as prefix:
        return _run_workers(arguments, ports, grace_seconds, prefix)


@contextlib.contextmanager
def _network(ports: Sequence[int], outside: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield what precedes the command of a worker, so that only workers reach workers."""
    with contextlib.ExitStack() as stack:
        prefix: Sequence[str] = ()
        reason = f"the workers need {outside[0]}" if outside else ""
        if not outside:
            try:
                prefix = stack.enter_context(own_network.own_network())
            except OSError as error:
                reason = f"they cannot get a network of their own ({error})"
        if reason:
            logger.warning(
                "train: whoever reaches ports %s of this machine can read and write your files by "
                "TensorFlow's servers, because %s; close the ports to others (docs/security.md)",
                *(", ".join(map(str, ports)), reason),
            )
        yield prefix


def _run_workers(
    arguments: Sequence[str], ports: Sequence[int], grace_seconds: float, prefix: Sequence[str]
) -> int:
    addresses = [f"127.0.0.1:{port}" for port in ports]
    num_workers = len(ports)
    threads = str(max(1, limits.num_cores() // num_workers))
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
            stdout=subprocess.DEVNULL,  # this process reports for all workers
            prefix=prefix,
        )
        for index in range(num_workers)
    ]

    def stop(number: int, frame: FrameType | None) -> None:
        stop_all(workers, grace_seconds + RESERVE_SECONDS)
        if not is_child():
            logger.error("mobilenet: terminated; run the same command again, it continues")
        os._exit(RETRY_EXIT_CODE)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        codes = _wait_for_all(workers)
    except KeyboardInterrupt:  # this process has said so, thus they need not say that they are late
        stop_all(workers, max(1.0, grace_seconds - EARLIER_SECONDS))
        raise
    finally:
        _end(workers, 0)
        signal.signal(signal.SIGTERM, previous)
    permanent = [code for code in codes if 0 < code < 128]
    if permanent:
        return permanent[0]
    return RETRY_EXIT_CODE if any(codes) else 0


def stop_all(children: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Ask children to stop, give them `seconds` to save, then kill them."""
    interruption.allow(seconds)
    for child in children:
        if child.poll() is None:
            child.terminate()
    _end([child for child in children if _has_begun(child)], seconds)
    _end(children, 0)


def _has_begun(child: subprocess.Popen[str]) -> bool:
    """Return whether a child has something to save: until then, a training lets SIGTERM wait."""
    with contextlib.suppress(OSError), open(f"/proc/{child.pid}/status") as status:
        blocked = next(line for line in status if line.startswith("SigBlk:"))
        return not int(blocked.split()[1], 16) & 1 << (signal.SIGTERM - 1)
    return False


def _wait_for_all(workers: Sequence[subprocess.Popen[str]]) -> list[int]:
    """Return the exit codes after all workers have ended; the first failure ends the others."""
    while any(worker.poll() is None for worker in workers):
        if any(worker.poll() for worker in workers):
            _end(workers, LAST_WORDS_SECONDS)
        time.sleep(0.1)
    return [worker.returncode for worker in workers]


def _end(workers: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Wait for the workers for `seconds`, then kill them.

    Nothing is damaged: everything that they write is complete or absent.
    """
    deadline = time.monotonic() + seconds
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free_socket in sockets:
            free_socket.bind(("127.0.0.1", 0))
        return [free_socket.getsockname()[1] for free_socket in sockets]
    finally:
        for free_socket in sockets:
            free_socket.close()
