"""The processes that this process has started, and those that they have started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LOOK_SECONDS = 0.01
# It removes what killed processes of `multiprocessing` leave in memory, and ends after them.
SURVIVOR = b"multiprocessing.resource_tracker"


def kill(seconds: float) -> None:
    """Kill them all, and see for up to `seconds` that they are gone.

    A process whose parent is killed becomes a child of this one, so none escapes.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    deadline = time.monotonic() + seconds
    while (left := list(_below(os.getpid(), _children()))) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def _children() -> dict[int, list[int]]:
    """Return the children of every process of this machine."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state != b"Z" and SURVIVOR not in (folder / "cmdline").read_bytes():
                children.setdefault(int(parent), []).append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return children


def _below(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, []):
        yield child
        yield from _below(child, children)
