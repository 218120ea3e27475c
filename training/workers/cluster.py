"""The cluster of a process, read from TF_CONFIG; no other module reads it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from preprocessing.errors import UsageError
from training.workers import indexed_job


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

        In a pod of an Indexed Job, which has no TF_CONFIG, it is made and set for TensorFlow.

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
