"""Sessions of processes: a killed parent and the workers that must follow it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_SECONDS = 60.0


def wait_until_gone(session: int) -> None:
    """Wait until the workers of a killed parent have ended by themselves."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := list(members(session)):
        assert time.monotonic() < deadline, f"{left} outlived their parent"
        time.sleep(0.01)


def members(session: int) -> Iterator[int]:
    """Yield the processes of a session."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session:
                yield int(path.name)
        except ProcessLookupError:
            continue
