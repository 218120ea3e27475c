"""Checkpoints of a run: written by the chief while training goes on, and restored.

The newest few are kept, and the one with the best top-1 known.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import (
    DataError,
    NonFiniteLossError,
    StorageFullError,
    UsageError,
    describe_os_error,
)
from preprocessing.storage import contracts
from training.workdir.checkpoint_files import (
    CheckpointFiles,
    Fingerprint,
    checkpoint_path,
    newest_intact,
    remove_checkpoint,
    scratch_folder,
)
from training.workdir.lock import require_ours
from training.workdir.workdir import Workdir

BY_REPLICA = "replicas/statistics"  # only in the checkpoint of a run that was stopped


class Checkpointed(Protocol):
    """A state that can be saved: variables by section and name."""

    def checkpointed(self) -> Mapping[str, Mapping[str, tf.Variable]]:
        """Return everything that a checkpoint holds."""


class Checkpoints:
    """Saves and restores a state.

    Only the chief may save; `keep` newest checkpoints stay, and the best.

    Attributes:
        by_replica: Those values `float32 [replicas, values]` of the restored checkpoint that
            replicas do not share; None if they share all.
    """

    def __init__(self, workdir: Workdir, state: Checkpointed, keep: int) -> None:
        self._workdir = workdir
        self._variables = named_variables(state)
        self._keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._newest: int | None = None
        self.by_replica: np.ndarray | None = None

    def restore(self, verbose: bool = True) -> int | None:
        """Continue from the newest intact checkpoint.

        Args:
            verbose: Log when a corrupt one is passed over.

        Returns:
            Its step, or None if there is no checkpoint.

        Raises:
            DataError: None of them is intact, or they are of another run.
        """
        newest = newest_intact(self._workdir, verbose)
        if newest is None:
            return None
        self._newest, tensors = newest
        self.by_replica = tensors.get(BY_REPLICA)
        assign(self._variables, tensors, checkpoint_path(self._workdir, self._newest))
        return self._newest

    def save(self, step: int, by_replica: np.ndarray | None = None) -> None:
        """Copy the present state and write it while training goes on.

        Wait for the checkpoint before first, and raise its failure.

        Args:
            step: The step of the state.
            by_replica: Values `float32 [replicas, values]` that replicas do not share.

        Raises:
            NonFiniteLossError: A variable is NaN or infinite: nobody could continue from it.
        """
        self.wait()
        if step == self._newest:
            return
        # Copies: the next step overwrites the buffers.
        tensors = {name: np.array(variable.numpy()) for name, variable in self._variables.items()}
        for name, value in tensors.items():
            if not np.isfinite(value).all():
                raise NonFiniteLossError(
                    f"{name} is not finite after step {step}, so no checkpoint is written; lower "
                    "optimizer.learning_rate_per_replica"
                )
        if by_replica is not None:
            tensors[BY_REPLICA] = by_replica
        self._writing = self._thread.submit(self._write, step, tensors)
        self._newest = step

    def check(self) -> None:
        """Raise the failure of the last write, if it has failed; do not wait.

        Raises:
            StorageFullError: No space left; names file and step.
            UsageError: The folder is gone or closed to us.
        """
        if self._writing and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when everything saved is on disk.

        Raises:
            StorageFullError: No space left; names file and step.
            UsageError: The folder is gone or closed to us.
        """
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, step: int, tensors: dict[str, np.ndarray]) -> None:
        folder = self._workdir.checkpoints_folder
        path = checkpoint_path(self._workdir, step)
        try:
            with scratch_folder(folder, step) as scratch:
                tf.raw_ops.SaveV2(
                    prefix=os.path.join(scratch, f"ckpt-{step}"),
                    tensor_names=list(tensors),
                    shape_and_slices=[""] * len(tensors),
                    tensors=list(tensors.values()),
                )
                files = {
                    name: Fingerprint.of(os.path.join(scratch, name))
                    for name in sorted(os.listdir(scratch))
                }
                require_ours(self._workdir)
                storage.remove(f"{path}.json")
                for name in files:
                    storage.move_into(os.path.join(scratch, name), storage.join(folder, name))
            complete = CheckpointFiles(step=step, files=files)
            require_ours(self._workdir)
            storage.write_json(f"{path}.json", contracts.to_json(complete))
            # TensorFlow's own tools look for this file.
            newest = f'model_checkpoint_path: "ckpt-{step}"\n'
            storage.write_bytes(storage.join(folder, "checkpoint"), newest.encode())
            self._retain()
        except (OSError, tf.errors.OpError) as error:
            raise _explained(error, path, step) from error

    def _retain(self) -> None:
        steps = self._workdir.checkpoint_steps()
        keep = {*steps[: self._keep], self._workdir.best_checkpoint_step(steps)}
        for step in set(steps) - keep:
            remove_checkpoint(self._workdir, step)


def named_variables(state: Checkpointed) -> dict[str, tf.Variable]:
    """Return the variables that a checkpoint holds, under its names."""
    return {
        f"{section}/{name}": variable
        for section, named in state.checkpointed().items()
        for name, variable in named.items()
    }


def assign(
    variables: Mapping[str, tf.Variable], tensors: Mapping[str, np.ndarray], path: str
) -> None:
    """Assign the tensors of the checkpoint at `path` to variables of the same names.

    Those by replica belong to none.

    Raises:
        DataError: Names or shapes differ; names the first difference.
    """
    wrong = sorted(variables.keys() ^ (tensors.keys() - {BY_REPLICA})) or [
        f"{name} {tensors[name].shape} (expected {tuple(variable.shape)})"
        for name, variable in variables.items()
        if tensors[name].shape != tuple(variable.shape)
    ]
    if wrong:
        raise DataError(f"{path} is not a checkpoint of this run: {len(wrong)} differ, {wrong[0]}")
    for name, variable in variables.items():
        variable.assign(tensors[name])


def _explained(error: OSError | tf.errors.OpError, path: str, step: int) -> Exception:
    """Return one line for a checkpoint that could not be written: file, step, what to do."""
    if "No space left" in str(error) or "Disk quota" in str(error):
        return StorageFullError(
            f"{path}: no space left for the checkpoint of step {step}; free some and run the same "
            "command again, it continues"
        )
    folder = os.path.dirname(path)
    if isinstance(error, (FileNotFoundError, tf.errors.NotFoundError)):
        return UsageError(
            f"{folder} vanished while the checkpoint of step {step} was written; bring it back "
            "and run the same command again"
        )
    if isinstance(error, OSError):
        described = describe_os_error(error)
        return type(described)(f"checkpoint of step {step}: {described}")
    reason = str(error).splitlines()[0]
    return UsageError(f"{path}: the checkpoint of step {step} cannot be written: {reason}")
