"""One trainer per workdir: a lock on this machine, a lease where several machines could write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.storage.leases import LEASE_SECONDS, LeasedError, lease, require_held
from training.workdir.workdir import Workdir

LOCK_TIMEOUT_SECONDS = 20.0  # by then, the workers of a killed run are gone
LEASE = ".lease.json"


@contextlib.contextmanager
def exclusive(workdir: Workdir) -> Iterator[None]:
    """Hold `workdir` against a second trainer while the block runs.

    Raises:
        UsageError: Another trainer holds it.
    """
    held = exclusive_between_machines if storage.is_remote(workdir.path) else exclusive_here
    with held(workdir):
        yield


@contextlib.contextmanager
def exclusive_here(workdir: Workdir) -> Iterator[None]:
    """Hold `workdir` against a second trainer on this machine; a bucket's is not held.

    Raises:
        UsageError: Another trainer holds it.
    """
    if storage.is_remote(workdir.path):
        yield
        return
    storage.make_folder(workdir.path)
    try:
        with storage.lock_file(workdir.file(".lock"), timeout_seconds=LOCK_TIMEOUT_SECONDS):
            yield
    except storage.LockedError:
        raise UsageError(
            f"another process is training in {workdir}; wait for it or stop it"
        ) from None


@contextlib.contextmanager
def exclusive_between_machines(
    workdir: Workdir, lease_seconds: float = LEASE_SECONDS
) -> Iterator[None]:
    """Hold `workdir`, which several machines see, against a second trainer.

    Raises:
        UsageError: Another trainer holds it.
    """
    storage.make_folder(workdir.path)
    try:
        with lease(workdir.file(LEASE), f"the workdir {workdir}", seconds=lease_seconds):
            yield
    except LeasedError as error:
        raise UsageError(
            f"another process is training in {workdir}, on {error.host}; wait for it or stop it"
        ) from None


def is_held(workdir: Workdir) -> bool:
    """Return whether a trainer holds `workdir`; on other machines, whether one has not let it go.

    A trainer that was killed there has not.
    """
    if storage.exists(workdir.file(LEASE)):
        return True
    lock = workdir.file(".lock")
    if storage.is_remote(lock) or not storage.exists(lock):
        return False
    try:
        with storage.lock_file(lock, timeout_seconds=0):
            return False
    except storage.LockedError:
        return True


def require_ours(workdir: Workdir) -> None:
    """Check that no other machine took `workdir` over while this process was frozen or cut off.

    Raises:
        UsageError: Another trainer holds it.
    """
    try:
        require_held(workdir.file(LEASE))
    except LeasedError as error:
        raise UsageError(
            f"another process, on {error.host}, took the workdir {workdir} over; nothing more is "
            "written there"
        ) from None
