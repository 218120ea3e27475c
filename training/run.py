"""From a process and its environment to a finished run, or to the exit code that says why not."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import tensorflow as tf

from preprocessing.errors import RETRY_EXIT_CODE
from training.cluster import Cluster
from training.config import RunConfig
from training.failures import explained
from training.loop import train


def run_training(
    config: RunConfig,
    records: str,
    workdir: str,
    cluster: Cluster,
    initial_checkpoint: str,
    data_service: str = "",
) -> dict[str, Any]:
    """Train as worker `cluster.index`; returns the final progress.

    Raises:
        RetryError: A peer was lost.
        PermanentError: Data, storage or loss are at fault.
    """
    with explained(records):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        # After the strategy, because creating it puts TensorFlow's own handler there, which
        # swallows the signal.
        signal.signal(signal.SIGTERM, _exit_on_sigterm)
        return train(config, records, workdir, cluster, strategy, initial_checkpoint, data_service)


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:
    print("train: terminated; run the same command to continue", file=sys.stderr, flush=True)
    os._exit(RETRY_EXIT_CODE)
