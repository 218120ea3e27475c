"""Things that tests need and that take minutes to make: they are made once, in the user's cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

CACHE = platformdirs.user_cache_path("mobilenet-tests")
# For what builds: a fixture may later send this process's requests to a store of its own.
BUILD_ENVIRONMENT = {**os.environ, "CGO_ENABLED": "0"}


def built_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Return `path`, a file or folder that is complete or absent, whatever kills its builder.

    Args:
        path: Path below `CACHE`.
        build: Function that makes the path of the same name that it is given; it is called unless
            `path` exists, by one process at a time.
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
