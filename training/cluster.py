"""Who this process is: the only reader of TF_CONFIG."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from preprocessing.errors import RetryError, UsageError

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PROBE_SECONDS = 1.0  # for a peer that is there to say so


@dataclass(frozen=True, slots=True)
class Cluster:
    """All workers and which of them this process is."""

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Worker 0 alone writes checkpoints, events and progress."""
        return self.index == 0

    @classmethod
    def from_environment(cls) -> Cluster:
        """Read TF_CONFIG; without it (one pod, one process) this is the only worker.

        Raises:
            UsageError: TF_CONFIG is not the JSON that the Training Operator writes.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text:
            return cls(("localhost",), 0)
        try:
            config = json.loads(text)
            workers = tuple(config["cluster"]["worker"])
            task, index = config["task"]["type"], int(config["task"]["index"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"TF_CONFIG must be {{'cluster': {{'worker': [...]}}, 'task': {{'type', 'index'}}}}"
                f", got {text!r} ({error!r})"
            ) from None
        if task != "worker" or not 0 <= index < len(workers):
            raise UsageError(
                f"TF_CONFIG names task {task} {index}; this trainer runs worker-only jobs, "
                f"here workers 0 to {len(workers) - 1}"
            )
        return cls(workers, index)


def meet(cluster: Cluster, timeout_seconds: float, check: Callable[[], None]) -> None:
    """Return once every other worker is there, answering, at its address in TF_CONFIG.

    TensorFlow would wait for them too, but without end and deaf to everything. A frozen
    peer accepts connections and stays silent, so each has to say something.

    Args:
        cluster: Who is to come.
        timeout_seconds: Until when.
        check: Called while waiting; raises to give up.

    Raises:
        RetryError: Someone is missing at the end of the time; names who.
    """
    missing = {index for index in range(len(cluster.workers)) if index != cluster.index}
    deadline = time.monotonic() + timeout_seconds
    with _answering(cluster.workers[cluster.index]) if missing else contextlib.nullcontext():
        while missing:
            check()
            missing = {index for index in missing if not _answers(cluster.workers[index])}
            if missing and time.monotonic() > deadline:
                names = ", ".join(
                    f"{index} ({cluster.workers[index]})" for index in sorted(missing)
                )
                raise RetryError(
                    f"worker {names} did not come within {timeout_seconds:g} s "
                    "(loop.startup_timeout_seconds); start all workers again"
                )
            if missing:
                time.sleep(0.1)


@contextlib.contextmanager
def _answering(address: str) -> Iterator[None]:
    """Answer whoever connects to our own address while the block runs."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", _endpoint(address)[1]))
        except OSError as error:
            raise RetryError(
                f"the address of this worker in TF_CONFIG, {address}, cannot be used: "
                f"{error.strerror}"
            ) from None
        listener.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):  # closed at the end of the block
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"here")

        threading.Thread(target=answer, daemon=True, name="rendezvous").start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends accept()


def _answers(address: str) -> bool:
    """Whether someone is there: a worker that waits like us, or TensorFlow's server already."""
    try:
        with socket.create_connection(_endpoint(address), PROBE_SECONDS) as connection:
            connection.settimeout(PROBE_SECONDS)
            # A server of HTTP/2 answers this with its settings.
            connection.sendall(HTTP2_PREFACE)
            return bool(connection.recv(1))
    except OSError:  # refused, reset, silent, or a name that is not known yet
        return False


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
