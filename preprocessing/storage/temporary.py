"""Temporary folders of this machine; what a killed process left behind, the next one removes."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator

PREFIX = "mobilenet-"
_NAME = re.compile(rf"{PREFIX}[a-z]+-(\d+)-\w+")
YOUNG_SECONDS = 60.0  # a folder of a process elsewhere may not be locked yet


@contextlib.contextmanager
def temporary_folder(purpose: str, *, in_memory: bool = False) -> Iterator[str]:
    """Yield an empty local folder that is removed with its content at the end of the block.

    The folder is locked while it is used. A process that is ended by SIGKILL leaves it unlocked,
    and the first call of any later process removes it.

    Args:
        purpose: A word for its name, for example `upload`.
        in_memory: Whether its files must not touch a disk, for secrets. A machine without a
            filesystem in memory has them where all temporary folders are.
    """
    parent = _parent_in_memory() if in_memory else tempfile.gettempdir()
    _remove_abandoned(parent)
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-{os.getpid()}-", dir=parent)
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some filesystems have no locks
            fcntl.flock(held, fcntl.LOCK_SH)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _parent_in_memory() -> str:
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
            return parent
    return tempfile.gettempdir()


@functools.cache
def _remove_abandoned(parent: str) -> None:
    """Remove the folders of this user that no process holds."""
    for entry in os.scandir(parent):
        match = _NAME.fullmatch(entry.name)
        with contextlib.suppress(OSError):  # it is being removed, or it is not ours
            if match and entry.is_dir(follow_symlinks=False) and _is_abandoned(entry, match):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_abandoned(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    status = entry.stat(follow_symlinks=False)
    if status.st_uid != os.geteuid():
        return False
    is_alive = os.path.exists(f"/proc/{match[1]}")
    if is_alive and time.time() - status.st_mtime < YOUNG_SECONDS:
        return False
    tried = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(tried, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(tried)
    return True
