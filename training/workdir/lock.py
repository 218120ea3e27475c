"""One trainer per workdir: a lock on this machine, a lease where several machines could write.

The lease is a file that its holder rewrites every few seconds. Whoever finds one waits as
long as it may lie still; if it moves, somebody is alive. No clocks are compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from preprocessing import storage
from preprocessing.errors import RETRY_EXIT_CODE, UsageError

LOCK_TIMEOUT_SECONDS = 20.0  # a killed run's workers are gone well before
LEASE_SECONDS = 30.0  # a lease that lies still for so long has lost its holder
RENEWALS = 6  # per lease time
LEASE = ".lease.json"


@contextlib.contextmanager
def exclusive(workdir: str) -> Iterator[None]:
    """Hold `workdir` against a second trainer while the block runs.

    Raises:
        UsageError: Another one has it.
    """
    with _lease(workdir) if storage.is_remote(workdir) else _lock(workdir):
        yield


@contextlib.contextmanager
def exclusive_between_machines(
    workdir: str, lease_seconds: float = LEASE_SECONDS
) -> Iterator[None]:
    """The same for the chief of a cluster, whose workdir several machines see.

    Raises:
        UsageError: Another one has it.
    """
    with _lease(workdir, lease_seconds):
        yield


@contextlib.contextmanager
def _lock(workdir: str) -> Iterator[None]:
    storage.make_folder(workdir)
    with open(os.path.join(workdir, ".lock"), "w") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"another process is training in {workdir}; wait for it or stop it"
                    ) from None
                time.sleep(0.2)
        yield


@contextlib.contextmanager
def _lease(workdir: str, seconds: float = LEASE_SECONDS) -> Iterator[None]:
    storage.make_folder(workdir)
    path = storage.join(workdir, LEASE)
    _await_free(path, workdir, seconds)
    ours = {"holder": uuid.uuid4().hex, "host": socket.gethostname(), "process": _process()}
    storage.write_json(path, {**ours, "renewals": 0})
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
        with contextlib.suppress(Exception):  # it would only have to be waited for
            if _read(path).get("holder") == ours["holder"]:
                storage.remove(path)


def _await_free(path: str, workdir: str, seconds: float) -> None:
    found = _read(path)
    if not found or _is_dead(found["process"]):
        return
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(seconds / RENEWALS / 2)
        now = _read(path)
        if not now:
            return
        if now != found:
            raise UsageError(
                f"another process is training in {workdir}, on {now['host']}; wait for it or "
                "stop it"
            )
    print(
        f"train: the lease on {workdir} of {found['host']} has lapsed; taking over",
        file=sys.stderr,
        flush=True,
    )


def _renew(path: str, ours: dict[str, Any], seconds: float, done: threading.Event) -> None:
    renewed = time.monotonic()
    renewals = 0
    while not done.wait(seconds / RENEWALS):
        try:
            holder = _read(path).get("holder")
            if holder not in (None, ours["holder"]):
                _leave("another process took this run's workdir over", UsageError.exit_code)
            renewals += 1
            storage.write_json(path, {**ours, "renewals": renewals})
            renewed = time.monotonic()
        except Exception as error:  # storage that hiccups; the training itself may not need it
            if time.monotonic() - renewed > seconds * (1 - 1 / RENEWALS):
                _leave(f"the lease {path} cannot be renewed ({error})", RETRY_EXIT_CODE)


def _read(path: str) -> dict[str, Any]:
    try:
        lease: dict[str, Any] = storage.read_json(path)
    except FileNotFoundError:
        return {}
    return lease


def _process() -> dict[str, Any]:
    """Who this process is among all that ever ran: machine since boot, namespace, start."""
    with open("/proc/sys/kernel/random/boot_id") as boot:
        boot_id = boot.read().strip()
    pid = os.getpid()
    return {
        "boot": boot_id,
        "namespace": os.readlink("/proc/self/ns/pid"),
        "pid": pid,
        "started": _started(pid),
    }


def _started(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_dead(process: dict[str, Any]) -> bool:
    """Whether a holder is known to be gone, because it ran where this process runs."""
    here = _process()
    same = all(here[key] == process[key] for key in ("boot", "namespace"))
    return same and _started(process["pid"]) != process["started"]


def _leave(reason: str, code: int) -> None:
    print(f"mobilenet: {reason}; stopping", file=sys.stderr, flush=True)
    os._exit(code)
