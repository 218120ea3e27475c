"""TensorFlow's errors in the words and exit codes of this project."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from preprocessing.errors import DataError, PermanentError, RetryError, StorageFullError

# What a lost, killed or frozen peer looks like from here. The process cannot recover:
# all workers restart and continue from the checkpoint.
_PEER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
_PLACE_IN_INPUT = re.compile(
    r"^.*transformation with iterator: \S+: |\{\{function_node \S+\}\} |\[Op:\S+\]"
)


@contextlib.contextmanager
def explained(records: str) -> Iterator[None]:
    """Turn what TensorFlow raises in the block into one line that says what to do.

    Raises:
        RetryError: A peer was lost.
        PermanentError: Data or storage are at fault, or TensorFlow itself.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise explain(error, records) from error


def explain(error: tf.errors.OpError, records: str, when: str = "", where: str = "") -> Exception:
    """The one line for what TensorFlow raised.

    Args:
        error: TensorFlow's own.
        records: The folder of the data.
        when: The steps it came in, if known.
        where: The file and record that are at fault, if known.
    """
    reason = _reason(str(error.message))
    during = f" in {when}" if when else ""
    if "No space left on device" in str(error.message):
        return StorageFullError(
            f"no space left{during}: {reason}; free some and run the same command again, it "
            "continues"
        )
    if isinstance(error, tf.errors.DataLossError):
        return DataError(
            f"corrupt record{during}: {where or f'{records}: {reason}'}; write that shard anew, or "
            "set training.max_corrupt_records to go on without it"
        )
    if isinstance(error, tf.errors.NotFoundError):
        return DataError(
            f"a file vanished{during}: {reason}; if it is a shard, run `mobilenet prepare`"
        )
    if isinstance(error, tf.errors.InvalidArgumentError) and "JPEG" in str(error.message):
        return DataError(f"an image of {records} cannot be decoded{during}: {reason}")
    if isinstance(error, _PEER_LOST) or "ollective" in str(error.message):
        return RetryError(f"lost a peer{during}: {reason}")
    return PermanentError(f"TensorFlow failed{during}: {reason}")


def _reason(message: str) -> str:
    """The line that says something, among those that say where in the graph."""
    lines = [line.strip() for line in message.splitlines()]
    empty = ("Graph execution error", "Detected at node", "Stack trace", "[[", "File ", "<stack")
    said = [line for line in lines if line and not line.startswith(empty)]
    return _PLACE_IN_INPUT.sub("", said[0] if said else message).strip()
