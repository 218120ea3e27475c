"""What tests need and takes minutes to make: made once, in the user's cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

CACHE = platformdirs.user_cache_path("mobilenet-tests")


def built_once(path: Path, build: Callable[[Path], None]) -> Path:
    """`path`, a file or folder; complete or not there, whatever kills its builder.

    Args:
        path: Below `CACHE`.
        build: Called unless `path` is there, one builder at a time; makes what it is given, a
            path of the same name on the same disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                made = Path(scratch) / path.name
                build(made)
                os.replace(made, path)
    return path
