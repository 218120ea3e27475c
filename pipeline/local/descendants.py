"""The processes that this process has started, and those that they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

LOOK_SECONDS = 0.01
# It removes what killed processes of `multiprocessing` leave in memory, and ends after them.
SURVIVOR = b"multiprocessing.resource_tracker"


def kill(seconds: float) -> None:
    """Kill them all, and wait up to `seconds` until they are gone.

    They are stopped first, so that none starts another one meanwhile.
    """
    stopped: set[int] = set()
    while new := set(_below(os.getpid(), _children())) - stopped:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _send(pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while stopped & set(_below(os.getpid(), _children())) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _children() -> dict[int, list[int]]:
    """Return the children of every process of this machine."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and SURVIVOR not in (folder / "cmdline").read_bytes():
                children.setdefault(int(parent), []).append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return children


def _below(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, []):
        yield child
        yield from _below(child, children)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
