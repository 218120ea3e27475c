"""The cluster of a process, read from TF_CONFIG; no other module reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from training.workers import indexed_job, tf_config


@dataclass(frozen=True, slots=True)
class Cluster:
    """All workers and which of them this process is."""

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Worker 0 alone writes checkpoints, events and progress."""
        return self.index == 0

    @property
    def has_peers(self) -> bool:
        """Whether this process works together with others."""
        return len(self.workers) > 1

    @classmethod
    def from_environment(cls) -> Cluster:
        """Read TF_CONFIG; without it (one pod, one process) this is the only worker.

        In a pod of an Indexed Job, which has no TF_CONFIG, it is made.
        TensorFlow then finds a TF_CONFIG of workers alone, the chief first, all with ports.

        Raises:
            UsageError: TF_CONFIG is no cluster that this trainer can run in.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text and "MOBILENET_WORKERS" in os.environ:
            text = indexed_job.tf_config(os.environ)
        if not text:
            return cls(("localhost",), 0)
        workers, index = tf_config.read(text)
        os.environ["TF_CONFIG"] = tf_config.rewritten(text, workers, index)
        return cls(workers, index)
