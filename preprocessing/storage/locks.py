"""Locks: on this machine, where a process that dies releases what it held, and in buckets."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from preprocessing.storage.leases import lease
from preprocessing.storage.paths import PARTIAL, is_remote, join
from preprocessing.storage.writing import make_folder

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.2
LEASE = f"{PARTIAL}lease.json"  # in a folder of a bucket
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
def exclusive(folder: str, command: str) -> Iterator[None]:
    """Hold a folder, created when missing, against other writers while the block runs.

    While another process holds it, say so and wait. A local folder is held by a lock,
    which filesystems without locks do not have, and one in a bucket by a lease.

    Args:
        folder: The folder.
        command: The command that writes, in messages.
    """

    def waiting(host: str) -> None:
        logger.info(
            "%s: another process on %s is writing %s; waiting for it", command, host, folder
        )

    if is_remote(folder):
        with lease(join(folder, LEASE), folder, waiting=waiting):
            yield
        return
    while True:
        make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY)
        if not _try_lock(descriptor):
            waiting("this machine")
        with _held(descriptor, timeout_seconds=None):
            if _is_at(descriptor, folder):  # its holder may have removed it
                yield
                return


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


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
