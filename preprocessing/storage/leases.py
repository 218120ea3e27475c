"""Leases: one writer at a time in a folder that several machines see, such as a bucket's.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from preprocessing.errors import RETRY_EXIT_CODE, UsageError
from preprocessing.storage import contracts
from preprocessing.storage.json_files import json_bytes, parse_json
from preprocessing.storage.swap import ABSENT, read_versioned, swap_bytes
from preprocessing.storage.writing import remove

logger = logging.getLogger(__name__)

LEASE_SECONDS = 30.0  # a lease that is unchanged for so long has lost its holder
RENEWALS = 6  # per lease time
_held: dict[str, str] = {}  # holders that this process is, by the path of the lease


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
    """The content of the file: who writes here, and how often that was confirmed."""

    holder: str
    host: str
    process: Process
    renewals: int


class LeasedError(Exception):
    """Another process holds the lease; `host` is where it runs."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


@contextlib.contextmanager
def lease(
    path: str,
    what: str,
    *,
    seconds: float = LEASE_SECONDS,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the lease at `path` while the block runs; end the process when it is lost.

    Args:
        path: The file of the lease; its folder exists.
        what: What is held, in messages: `the workdir gs://...`.
        seconds: How long a lease may stay unchanged.
        waiting: Called with the holder's host when this process begins to wait for it; None
            refuses to wait for a holder that is alive.

    Raises:
        LeasedError: Another process holds it and `waiting` is None.
    """
    ours, version = _acquire(path, what, seconds, waiting)
    _held[path] = ours.holder
    done = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(path, what, ours, version, seconds, done), daemon=True, name="lease"
    )
    renewing.start()
    try:
        yield
    finally:
        del _held[path]
        done.set()
        renewing.join(seconds)
        # When this fails, the next holder waits until the lease lapses.
        with contextlib.suppress(Exception):
            stored, _ = _read(path)
            if stored and stored.holder == ours.holder:
                remove(path)


def require_held(path: str) -> None:
    """Check, before something that must not be undone, that no other process took a lease over.

    The thread that renews it ends this process when that happened, but a process that was frozen
    or cut off may come to its next write before that thread does.

    Args:
        path: The file of the lease; nothing is checked unless this process took it.

    Raises:
        LeasedError: Another process took it over.
    """
    if path in _held:
        stored, _ = _read(path)
        if stored is not None and stored.holder != _held[path]:
            raise LeasedError(stored.host)


def _acquire(
    path: str, what: str, seconds: float, waiting: Callable[[str], None] | None
) -> tuple[Lease, str]:
    """Return our lease and the version of its file, once nobody else holds it."""
    ours = Lease(
        holder=uuid.uuid4().hex, host=socket.gethostname(), process=Process.current(), renewals=0
    )
    content = _content(ours)
    while True:
        version = _await_free(path, what, seconds, waiting)
        if swap_bytes(path, content, version):
            stored, version = _read(path)
            if stored == ours:
                return ours, version


def _await_free(path: str, what: str, seconds: float, waiting: Callable[[str], None] | None) -> str:
    """Return the version of the lease that may be replaced."""
    first, version = _read(path)
    told = False
    deadline = time.monotonic() + seconds
    while first is not None and not first.process.is_dead():
        if time.monotonic() > deadline:
            logger.warning(
                "mobilenet: the lease on %s of %s has lapsed; taking over", what, first.host
            )
            return version
        time.sleep(seconds / RENEWALS / 2)
        stored, version = _read(path)
        if stored is not None and stored != first:  # its holder is alive
            if waiting is None:
                raise LeasedError(stored.host)
            if not told:
                waiting(stored.host)
            told = True
            deadline = time.monotonic() + seconds
        first = stored
    return version


def _renew(
    path: str, what: str, ours: Lease, version: str, seconds: float, done: threading.Event
) -> None:
    renewed = time.monotonic()
    while not done.wait(seconds / RENEWALS):
        try:
            ours = dataclasses.replace(ours, renewals=ours.renewals + 1)
            swapped = swap_bytes(path, _content(ours), version)
            stored, version = _read(path)
            if stored is None or stored.holder != ours.holder:
                _leave(f"another process took {what} over", UsageError.exit_code)
            if swapped:
                renewed = time.monotonic()
        except Exception as error:  # a short failure of the storage does not hurt the work
            if time.monotonic() - renewed > seconds * (1 - 1 / RENEWALS):
                _leave(f"the lease {path} cannot be renewed ({error})", RETRY_EXIT_CODE)


def _read(path: str) -> tuple[Lease | None, str]:
    content, version = read_versioned(path)
    if version == ABSENT:
        return None, ABSENT
    return contracts.from_json(Lease, parse_json(content, path), path), version


def _content(lease: Lease) -> bytes:
    return json_bytes(contracts.to_json(lease))


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
