"""From a process and its environment to a finished run, or to the exit code that says why not."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import tensorflow as tf

from preprocessing.errors import (
    RETRY_EXIT_CODE,
    DataError,
    PermanentError,
    RetryError,
    StorageFullError,
)
from training.cluster import Cluster
from training.config import RunConfig
from training.loop import train

# What a lost, killed or frozen peer looks like from here. The process cannot recover:
# all workers restart and continue from the checkpoint.
_PEER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def run_training(config: RunConfig, records: str, workdir: str, cluster: Cluster) -> dict[str, Any]:
    """Train as worker `cluster.index`; returns the final progress.

    Raises:
        RetryError: A peer was lost.
        PermanentError: Data, storage or loss are at fault.
    """
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # After the strategy, because creating it puts TensorFlow's own handler there, which
    # swallows the signal.
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        return train(config, records, workdir, cluster, strategy)
    except tf.errors.OpError as error:
        raise _explain(error, records) from error


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:
    print("train: terminated; run the same command to continue", file=sys.stderr, flush=True)
    os._exit(RETRY_EXIT_CODE)


def _explain(error: tf.errors.OpError, records: str) -> Exception:
    reason = error.message.splitlines()[0]
    if "No space left on device" in error.message:
        return StorageFullError(f"no space left: {reason}; free some and run the same command")
    if isinstance(error, tf.errors.DataLossError):
        return DataError(f"a record of {records} is corrupt: {reason}; write that shard anew")
    if isinstance(error, tf.errors.NotFoundError):
        return DataError(f"a file vanished during training: {reason}")
    if isinstance(error, tf.errors.InvalidArgumentError) and "JPEG" in error.message:
        return DataError(f"an image of {records} cannot be decoded: {reason}")
    if isinstance(error, _PEER_LOST) or "ollective" in error.message:
        return RetryError(f"lost a peer: {reason}")
    return PermanentError(f"TensorFlow failed: {reason}")
