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
from dataclasses import dataclass

from preprocessing.errors import RetryError
from training.workers.cluster import Cluster

CALL_SECONDS = 1.0  # within which a peer that listens answers
TELL_SECONDS = 60.0  # between two messages about workers that are missing
MARK = "mobilenet-worker"  # begins every message
MET_ALL, NOBODY = "all", "-"
MAX_MESSAGE_BYTES = 200

logger = logging.getLogger(__name__)


@dataclass
class _Peer:
    """What this worker knows of another; a worker that is started again is another one.

    Attributes:
        newest: Identity in its newest message.
        called: Identity in the newest call that came from it.
        answered: Identity in its newest answer to a call of this worker.
        heard_us: Whether its newest message says that a call of this worker reached it.
        met_all: Whether its newest message says that it has met all others.
        left: Whether it has stopped to answer after they had met.
    """

    newest: str = ""
    called: str = ""
    answered: str = ""
    heard_us: bool = False
    met_all: bool = False
    left: bool = False

    @property
    def is_met(self) -> bool:
        """Whether calls have gone both ways between this worker and the newest one there."""
        reached = self.answered == self.newest or self.heard_us
        return bool(self.newest) and self.called == self.newest and reached

    @property
    def may_be_left(self) -> bool:
        """Whether it needs this worker's answers no more."""
        return self.is_met and (self.met_all or self.left)


def rendezvous(cluster: Cluster, timeout_seconds: float, check: Callable[[], None]) -> None:
    """Return once every other worker is at this same point.

    TensorFlow would wait for them too, but without a time limit and without hearing signals, and
    a new worker would join what is left of the old ones. So all workers meet here first, each
    pair in both directions: a frozen process stays silent, and one that trains already does not
    listen. Nobody leaves before all others have met all, because an answer may be lost on its
    way, and whoever asks again must not find the door closed.

    Args:
        cluster: All workers.
        timeout_seconds: Time limit.
        check: Called while waiting; raises to give up.

    Raises:
        RetryError: A worker is missing at the end of the time; names it.
    """
    if len(cluster.workers) == 1:
        return
    meeting = _Meeting(cluster)
    start = time.monotonic()
    tell_at = start + TELL_SECONDS
    with _answering(cluster.workers[cluster.index], meeting):
        while waited_for := meeting.waited_for():
            check()
            for index in waited_for:
                meeting.call(index)
            names = ", ".join(f"{index} ({cluster.workers[index]})" for index in waited_for)
            if time.monotonic() > tell_at:
                tell_at += TELL_SECONDS
                logger.info(
                    "train: waiting for %d of %d workers for %.0f min: %s",
                    *(len(waited_for), len(cluster.workers), (time.monotonic() - start) / 60),
                    names,
                )
            if time.monotonic() - start > timeout_seconds:
                raise RetryError(
                    f"worker {names} did not come within {timeout_seconds:g} s "
                    "(loop.startup_timeout_seconds); start all workers again"
                )
            time.sleep(0.1)


class _Meeting:
    """This worker's view of the rendezvous, and its messages.

    A message has five words: a mark, the sender's index and identity, the identity that the sender
    has heard calling from the place to which it writes, and whether it has met all others.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._identity = uuid.uuid4().hex
        self._peers = {
            index: _Peer() for index in range(len(cluster.workers)) if index != cluster.index
        }

    def waited_for(self) -> list[int]:
        """Return the workers that are missing; if none is, those that still miss somebody."""
        missing = [index for index, peer in self._peers.items() if not peer.is_met]
        return missing or [index for index, peer in self._peers.items() if not peer.may_be_left]

    def call(self, index: int) -> None:
        """Call a worker, and note what it answers."""
        peer = self._peers[index]
        try:
            with socket.create_connection(
                _endpoint(self._cluster.workers[index]), CALL_SECONDS
            ) as connection:
                connection.settimeout(CALL_SECONDS)
                connection.sendall(self.message_to(index))
                answer = connection.recv(MAX_MESSAGE_BYTES)
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            peer.left = peer.is_met
            return
        except OSError:  # silent, or a name that is not known yet
            return
        sender, identity = self.note(answer)
        if sender == index:
            peer.answered = identity
        else:  # something else is there by now, such as TensorFlow's server
            peer.left = peer.is_met

    def hear(self, message: bytes) -> bytes:
        """Note a call, and return the answer; empty if it is nobody's."""
        sender, identity = self.note(message)
        if sender not in self._peers:
            return b""
        self._peers[sender].called = identity
        return self.message_to(sender)

    def note(self, message: bytes) -> tuple[int, str]:
        """Note what a message says, and return index and identity of its sender; -1 for nobody."""
        words = message.decode("ascii", "replace").split()
        if len(words) != 5 or words[0] != MARK or not words[1].isdecimal():
            return -1, ""
        _, sender, identity, heard, met_all = words
        if peer := self._peers.get(int(sender)):
            peer.newest, peer.left = identity, False
            peer.heard_us, peer.met_all = heard == self._identity, met_all == MET_ALL
        return int(sender), identity

    def message_to(self, index: int) -> bytes:
        """Return a message for a worker."""
        heard = self._peers[index].called or NOBODY
        met_all = MET_ALL if all(peer.is_met for peer in self._peers.values()) else NOBODY
        return f"{MARK} {self._cluster.index} {self._identity} {heard} {met_all}".encode()


@contextlib.contextmanager
def _answering(address: str, meeting: _Meeting) -> Iterator[None]:
    """Answer every caller while the block runs."""
    with _listener(address) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # shut down at the end of the block
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(CALL_SECONDS)
                    connection.sendall(meeting.hear(connection.recv(MAX_MESSAGE_BYTES)))

        answering = threading.Thread(target=answer, daemon=True, name="rendezvous")
        answering.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()


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
