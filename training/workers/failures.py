"""Failures: TensorFlow's errors in the words and exit codes of this project."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from preprocessing.errors import DataError, PermanentError, RetryError, StorageFullError

# How a lost, killed or frozen peer appears to this process, or a store that does not answer. It
# cannot recover: all workers restart and continue from the checkpoint.
_AWAY = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
_PLACE_IN_INPUT = re.compile(
    r"^.*transformation with iterator: \S+: |\{\{function_node \S+\}\} |\[Op:\S+\]"
)
_OF_STORAGE = re.compile(r"\bgs://|\bhttps?://|libcurl|HTTP request")
_PLACES = (
    "Graph execution error",
    "Detected at node",
    "Stack trace",
    "[[",
    "File ",
    "<stack",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedRecord:
    """A record that cannot be used, or whose image cannot be decoded.

    Attributes:
        place: The shard and the byte at which the record starts.
        key: Key of the image, `split/class/filename`; None where the record itself is corrupt.
        reason: The reason of TensorFlow.
    """

    place: str
    key: str | None
    reason: str

    def __str__(self) -> str:
        return self.describe()

    def describe(self, when: str = "") -> str:
        """Return what is damaged and what to do about it, for example ` in steps 5 to 10`."""
        if self.key is None:
            return f"corrupt record{when}: {self.place}; write that shard again"
        return (
            f"image that cannot be decoded{when}: {self.place}, {self.key} ({self.reason}); "
            "`mobilenet prepare --decode-check` rejects all such images"
        )


@contextlib.contextmanager
def explained(records: str, *, has_peers: bool = False) -> Iterator[None]:
    """Turn what TensorFlow raises in the block into one line that says what to do.

    Args:
        records: The folder of the data.
        has_peers: Whether this process works together with others.

    Raises:
        RetryError: A peer was lost, or the storage does not answer.
        PermanentError: Data or storage are at fault, or TensorFlow itself.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise explain(error, records, has_peers=has_peers) from error


def explain(
    error: tf.errors.OpError,
    records: str,
    *,
    during: str | None = None,
    damage: DamagedRecord | None = None,
    has_peers: bool = False,
) -> Exception:
    """Return the error to raise instead, with one line.

    Args:
        error: TensorFlow's own error.
        records: The folder of the data.
        during: The steps of training in which it came, if known.
        damage: The record that is at fault, if known.
        has_peers: Whether this process works together with others.
    """
    reason = reason_of(error)
    when = f" in {during}" if during else ""
    if "No space left on device" in str(error.message):
        return StorageFullError(
            f"no space left{when}: {reason}; free some and run the same command again, it continues"
        )
    advice = ", or set training.max_corrupt_records to continue without the record"
    remedy = advice if during else ""
    if damage:
        return DataError(f"{damage.describe(when)}{remedy}")
    if isinstance(error, tf.errors.DataLossError):
        return DataError(
            f"corrupt record{when}: {records}: {reason}; write its shard again{remedy}"
        )
    if isinstance(error, tf.errors.NotFoundError):
        return DataError(
            f"a file vanished{when}: {reason}; if it is a shard, run `mobilenet prepare`"
        )
    if isinstance(error, tf.errors.InvalidArgumentError) and "JPEG" in str(error.message):
        return DataError(f"an image of {records} cannot be decoded{when}: {reason}{remedy}")
    if "ollective" in str(error.message):
        return RetryError(f"lost a peer{when}: {reason}")
    if isinstance(error, _AWAY):
        if has_peers and not _OF_STORAGE.search(str(error.message)):
            return RetryError(f"lost a peer{when}: {reason}")
        return RetryError(
            f"the storage of {records} failed{when}: {reason}; run the same command again, it "
            "continues"
        )
    return PermanentError(f"TensorFlow failed{when}: {reason}")


def reason_of(error: tf.errors.OpError) -> str:
    """Return the line that gives a reason, among those that give places in the graph."""
    message = str(error.message)
    lines = [line.strip() for line in message.splitlines()]
    reasons = [line for line in lines if line and not line.startswith(_PLACES)]
    return _PLACE_IN_INPUT.sub("", reasons[0] if reasons else message).strip()
