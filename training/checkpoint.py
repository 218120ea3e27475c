"""Checkpoints of a run: written by the chief, restored by every worker."""

from __future__ import annotations

import tensorflow as tf

from preprocessing.errors import DataError, UsageError
from training.state import TrainingState
from training.workdir import Run, checkpoints_folder


class Checkpoints:
    """Saves and restores a `TrainingState`."""

    def __init__(self, workdir: str, state: TrainingState, keep: int) -> None:
        self._checkpoint = tf.train.Checkpoint(**state.checkpointed())
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, checkpoints_folder(workdir), max_to_keep=keep
        )

    def restore(self) -> bool:
        """Continue from the newest checkpoint; whether there is one."""
        newest = self._manager.latest_checkpoint
        if newest:
            self._checkpoint.restore(newest).assert_existing_objects_matched()
        return bool(newest)

    def save(self, step: int) -> None:
        """Write the checkpoint of `step`; it appears complete or not at all."""
        self._manager.save(checkpoint_number=step)


def newest_checkpoint(workdir: str) -> str:
    """Path of the newest complete checkpoint.

    Raises:
        UsageError: There is none.
    """
    newest = tf.train.latest_checkpoint(checkpoints_folder(workdir))
    if not newest:
        raise UsageError(f"{workdir} has no checkpoint yet; train it with `mobilenet train`")
    return str(newest)


def load_state(workdir: str, run: Run) -> TrainingState:
    """The newest checkpoint of a run, its averages in `averaged_model`.

    Raises:
        UsageError: There is no checkpoint.
        DataError: It is not one of this run.
    """
    path = newest_checkpoint(workdir)
    state = TrainingState.of(run)
    try:
        status = tf.train.Checkpoint(**state.checkpointed()).restore(path)
        status.assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a checkpoint of this run: {reason}") from error
    state.average()
    return state
