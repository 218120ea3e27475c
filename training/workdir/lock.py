"""One trainer per workdir: a lock on this machine, a lease where several machines could write.

The lease is a file that its holder rewrites every few seconds. A process that finds a lease
waits as long as it may stay unchanged; if it changes, its holder is alive. No clocks are compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from preprocessing import storage
from preprocessing.errors import RETRY_EXIT_CODE, UsageError
from preprocessing.storage import contracts
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 20.0  # by then, the workers of a killed run are gone
LEASE_SECONDS = 30.0  # a lease that is unchanged for so long has lost its holder
RENEWALS = 6  # per lease time
LEASE = ".lease.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process among all that ever ran: machine since boot, namespace, number and start."""

    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        with open("/proc/sys/kernel/random/boot_id") as boot:
            boot_id = boot.read().strip()
        pid = os.getpid()
        return cls(
            boot=boot_id,
            namespace=os.readlink("/proc/self/ns/pid"),
            pid=pid,
            started=_started(pid),
        )

    def is_dead(self) -> bool:
        """Return whether it is known to be gone, because it ran where this process runs."""
        current = Process.current()
        same_place = (self.boot, self.namespace) == (current.boot, current.namespace)
        return same_place and _started(self.pid) != self.started


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """`.lease.json`: who trains here, and how often that was confirmed."""

    holder: str
    host: str
    process: Process
    renewals: int


@contextlib.contextmanager
def exclusive(workdir: Workdir) -> Iterator[None]:
    """Hold `workdir` against a second trainer while the block runs.

    Raises:
        UsageError: Another trainer holds it.
    """
    with _lease(workdir) if storage.is_remote(workdir.path) else _lock(workdir):
        yield


@contextlib.contextmanager
def exclusive_between_machines(
    workdir: Workdir, lease_seconds: float = LEASE_SECONDS
) -> Iterator[None]:
    """Hold `workdir`, which several machines see, for the chief of a cluster.

    Raises:
        UsageError: Another trainer holds it.
    """
    with _lease(workdir, lease_seconds):
        yield


@contextlib.contextmanager
def _lock(workdir: Workdir) -> Iterator[None]:
    storage.make_folder(workdir.path)
    try:
        with storage.lock_file(workdir.file(".lock"), timeout_seconds=LOCK_TIMEOUT_SECONDS):
            yield
    except storage.LockedError:
        raise UsageError(
            f"another process is training in {workdir}; wait for it or stop it"
        ) from None


@contextlib.contextmanager
def _lease(workdir: Workdir, seconds: float = LEASE_SECONDS) -> Iterator[None]:
    storage.make_folder(workdir.path)
    path = workdir.file(LEASE)
    _await_free(path, workdir, seconds)
    ours = Lease(
        holder=uuid.uuid4().hex,
        host=socket.gethostname(),
        process=Process.current(),
        renewals=0,
    )
    _write(path, ours)
    done = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(path, ours, seconds, done), daemon=True, name="lease"
    )
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join(seconds)
        with contextlib.suppress(
            Exception
        ):  # otherwise the next trainer waits until the lease lapses
            stored = _read(path)
            if stored and stored.holder == ours.holder:
                storage.remove(path)


def _await_free(path: str, workdir: Workdir, seconds: float) -> None:
    first = _read(path)
    if first is None or first.process.is_dead():
        return
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(seconds / RENEWALS / 2)
        stored = _read(path)
        if stored is None:
            return
        if stored != first:
            raise UsageError(
                f"another process is training in {workdir}, on {stored.host}; wait for it or "
                "stop it"
            )
    logger.warning("train: the lease on %s of %s has lapsed; taking over", workdir, first.host)


def _renew(path: str, ours: Lease, seconds: float, done: threading.Event) -> None:
    renewed = time.monotonic()
    while not done.wait(seconds / RENEWALS):
        try:
            stored = _read(path)
            if stored and stored.holder != ours.holder:
                _leave("another process took this run's workdir over", UsageError.exit_code)
            ours = dataclasses.replace(ours, renewals=ours.renewals + 1)
            _write(path, ours)
            renewed = time.monotonic()
        except Exception as error:  # a short failure of the storage does not hurt the training
            if time.monotonic() - renewed > seconds * (1 - 1 / RENEWALS):
                _leave(f"the lease {path} cannot be renewed ({error})", RETRY_EXIT_CODE)


def _read(path: str) -> Lease | None:
    try:
        return contracts.from_json(Lease, storage.read_json(path), path)
    except FileNotFoundError:
        return None


def _write(path: str, lease: Lease) -> None:
    storage.write_json(path, contracts.to_json(lease))


def _started(pid: int) -> str:
    """Return when a process was started, in ticks since boot; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _leave(reason: str, code: int) -> None:
    logger.error("mobilenet: %s; stopping", reason)
    sys.stderr.flush()
    os._exit(code)
