"""Rendezvous: all workers of a cluster are present before TensorFlow connects them."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from preprocessing.errors import RetryError
from training.workers.cluster import Cluster

CALL_SECONDS = 1.0  # within which a peer that listens answers
TELL_SECONDS = 60.0  # between two messages about workers that are missing

logger = logging.getLogger(__name__)


def rendezvous(cluster: Cluster, timeout_seconds: float, check: Callable[[], None]) -> None:
    """Return once every other worker is at this same point.

    TensorFlow would wait for them too, but without a time limit and without hearing signals, and
    a new worker would join what is left of the old ones. So all workers meet here first, each
    pair in both directions: a frozen process stays silent, and one that trains already does not
    listen.

    Args:
        cluster: All workers.
        timeout_seconds: Time limit.
        check: Called while waiting; raises to give up.

    Raises:
        RetryError: A worker is missing at the end of the time; names it.
    """
    peers = {index for index in range(len(cluster.workers)) if index != cluster.index}
    if not peers:
        return
    own_identity = f"mobilenet worker {cluster.index} {uuid.uuid4().hex}"
    called: dict[int, str] = {}  # who answered when this worker called
    callers: dict[int, str] = {}  # who called this worker
    start = time.monotonic()
    tell_at = start + TELL_SECONDS
    with _answering(cluster.workers[cluster.index], own_identity, callers):
        while missing := {i for i in peers if not called.get(i) or called[i] != callers.get(i)}:
            check()
            for index in missing:
                called[index] = _call(cluster.workers[index], own_identity)
            names = ", ".join(f"{index} ({cluster.workers[index]})" for index in sorted(missing))
            if time.monotonic() > tell_at:
                tell_at += TELL_SECONDS
                logger.info(
                    "train: waiting for %d of %d workers for %.0f min: %s",
                    *(len(missing), len(cluster.workers), (time.monotonic() - start) / 60, names),
                )
            if time.monotonic() - start > timeout_seconds:
                raise RetryError(
                    f"worker {names} did not come within {timeout_seconds:g} s "
                    "(loop.startup_timeout_seconds); start all workers again"
                )
            time.sleep(0.1)


@contextlib.contextmanager
def _answering(address: str, own_identity: str, callers: dict[int, str]) -> Iterator[None]:
    """Answer every caller with `own_identity` while the block runs, and note it in `callers`."""
    with _listener(address) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # shut down at the end of the block
                    return
                with connection, contextlib.suppress(OSError, ValueError, IndexError):
                    connection.settimeout(CALL_SECONDS)
                    identity = connection.recv(100).decode()
                    index = int(identity.removeprefix("mobilenet worker ").split()[0])
                    connection.sendall(own_identity.encode())
                    callers[index] = identity

        answering = threading.Thread(target=answer, daemon=True, name="rendezvous")
        answering.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()


def _call(address: str, own_identity: str) -> str:
    """Return the identity of the worker at `address`, or an empty string without an answer."""
    try:
        with socket.create_connection(_endpoint(address), CALL_SECONDS) as connection:
            connection.settimeout(CALL_SECONDS)
            connection.sendall(own_identity.encode())
            return connection.recv(100).decode("ascii", "replace")
    except OSError:  # refused, reset, silent, or a name that is not known yet
        return ""


def _listener(address: str) -> socket.socket:
    """Return a socket that hears what others send to the address of this worker.

    An address of loopback is heard on this machine alone. Any other name may stand for several
    addresses, or for one that this machine does not know to be its own.

    Raises:
        RetryError: The port cannot be used.
    """
    host, port = _endpoint(address)
    try:
        if host == "localhost":
            return socket.create_server(("127.0.0.1", port))
        if ":" in host and ipaddress.ip_address(host).is_loopback:
            return socket.create_server((host, port), family=socket.AF_INET6)
        if host.startswith("127."):
            return socket.create_server((host, port))
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise RetryError(
            f"the address of this worker in TF_CONFIG, {address}, cannot be used: {error.strerror}"
        ) from None


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
