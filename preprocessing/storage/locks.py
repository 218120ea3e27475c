"""Locks on this machine: a process that dies releases what it held."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from preprocessing.errors import UsageError
from preprocessing.storage.paths import is_remote
from preprocessing.storage.writing import make_folder

PAUSE_SECONDS = 0.2
WITHOUT_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP)  # some network filesystems


class LockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def lock_file(path: str, *, timeout_seconds: float | None = None) -> Iterator[None]:
    """Hold a local file, created when missing, while the block runs.

    Args:
        path: The file; its folder exists.
        timeout_seconds: Time to wait for another holder; None waits without limit.

    Raises:
        LockedError: Another process still held the lock after that time.
    """
    with _held(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), timeout_seconds):
        yield


@contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Hold a local folder, created when missing, against other writers while the block runs.

    Folders in buckets, and on filesystems without locks, are not held.

    Raises:
        UsageError: Another process holds it.
    """
    if is_remote(folder):
        yield
        return
    make_folder(folder)
    try:
        with _held(os.open(folder, os.O_RDONLY), timeout_seconds=0):
            yield
    except LockedError:
        raise UsageError(f"another process is writing {folder}; wait for it or stop it") from None


@contextmanager
def _held(descriptor: int, timeout_seconds: float | None) -> Iterator[None]:
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    try:
        while not _try_lock(descriptor):
            if deadline is not None and time.monotonic() >= deadline:
                raise LockedError
            time.sleep(PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    return True
