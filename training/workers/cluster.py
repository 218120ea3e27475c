"""Who this process is: the only reader of TF_CONFIG."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from preprocessing.errors import RetryError, UsageError
from training.workers import indexed_job

CALL_SECONDS = 1.0  # for a peer that is there to say so


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

        In a pod of an Indexed Job, which has none, it is made and set for TensorFlow to read.

        Raises:
            UsageError: TF_CONFIG is not the JSON that the Training Operator writes.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text and "MOBILENET_WORKERS" in os.environ:
            text = indexed_job.tf_config(os.environ)
            if text:
                os.environ["TF_CONFIG"] = text
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
    """Return once every other worker is at this same point.

    TensorFlow would wait for them too, but without end and deaf to everything, and a new
    worker would join what is left of the old ones. So all meet here first, each pair in both
    directions: a frozen process stays silent, and one that trains already does not listen.

    Args:
        cluster: Who is to come.
        timeout_seconds: Until when.
        check: Called while waiting; raises to give up.

    Raises:
        RetryError: Someone is missing at the end of the time; names who.
    """
    others = {index for index in range(len(cluster.workers)) if index != cluster.index}
    if not others:
        return
    me = f"mobilenet worker {cluster.index} {uuid.uuid4().hex}"
    answered: dict[int, str] = {}  # what they said when we called them
    came: dict[int, str] = {}  # and when they called us
    deadline = time.monotonic() + timeout_seconds
    with _answering(cluster.workers[cluster.index], me, came):
        while missing := {i for i in others if not answered.get(i) or answered[i] != came.get(i)}:
            check()
            for index in missing:
                answered[index] = _call(cluster.workers[index], me)
            if time.monotonic() > deadline:
                names = ", ".join(f"{each} ({cluster.workers[each]})" for each in sorted(missing))
                raise RetryError(
                    f"worker {names} did not come within {timeout_seconds:g} s "
                    "(loop.startup_timeout_seconds); start all workers again"
                )
            time.sleep(0.1)


@contextlib.contextmanager
def _answering(address: str, me: str, came: dict[int, str]) -> Iterator[None]:
    """While the block runs, say `me` to whoever calls, and note in `came` who they are."""
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
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # shut down at the end of the block
                    return
                with connection, contextlib.suppress(OSError, ValueError, IndexError):
                    connection.settimeout(CALL_SECONDS)
                    who = connection.recv(100).decode()
                    index = int(who.removeprefix("mobilenet worker ").split()[0])
                    connection.sendall(me.encode())
                    came[index] = who

        answering = threading.Thread(target=answer, daemon=True, name="rendezvous")
        answering.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()


def _call(address: str, me: str) -> str:
    """What the worker at `address` says, or nothing."""
    try:
        with socket.create_connection(_endpoint(address), CALL_SECONDS) as connection:
            connection.settimeout(CALL_SECONDS)
            connection.sendall(me.encode())
            return connection.recv(100).decode("ascii", "replace")
    except OSError:  # refused, reset, silent, or a name that is not known yet
        return ""


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
