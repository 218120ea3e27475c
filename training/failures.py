"""TensorFlow's errors in the words and exit codes of this project."""

from __future__ import annotations

import contextlib
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
        raise _explain(error, records) from error


def _explain(error: tf.errors.OpError, records: str) -> Exception:
    reason = str(error.message).splitlines()[0]
    if "No space left on device" in str(error.message):
        return StorageFullError(
            f"no space left: {reason}; free some and run the same command again, it continues"
        )
    if isinstance(error, tf.errors.DataLossError):
        return DataError(f"a record of {records} is corrupt: {reason}; write that shard anew")
    if isinstance(error, tf.errors.NotFoundError):
        return DataError(f"a file vanished: {reason}; if it is a shard, run `mobilenet prepare`")
    if isinstance(error, tf.errors.InvalidArgumentError) and "JPEG" in str(error.message):
        return DataError(f"an image of {records} cannot be decoded: {reason}")
    if isinstance(error, _PEER_LOST) or "ollective" in str(error.message):
        return RetryError(f"lost a peer: {reason}")
    return PermanentError(f"TensorFlow failed: {reason}")
