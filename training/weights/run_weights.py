"""The weights of a run's checkpoint, to evaluate and to export."""

from __future__ import annotations

from preprocessing.errors import DataError, UsageError
from training.optimization.state import TrainingState
from training.workdir.checkpoint import assign, named_variables
from training.workdir.checkpoint_files import (
    CorruptCheckpointError,
    checkpoint_path,
    newest_intact,
    read_checkpoint,
)
from training.workdir.run_record import Fork, Run
from training.workdir.workdir import Workdir


def load_state(workdir: Workdir, run: Run, step: int | None = None) -> TrainingState:
    """Return the state of a checkpoint of a run, its averages in `averaged_model`.

    Args:
        workdir: The run's folder.
        run: The run in that folder.
        step: Step of the checkpoint; None means the newest intact one.

    Raises:
        UsageError: The run has no checkpoint.
        DataError: The checkpoint belongs to another run, or is corrupt.
    """
    state = TrainingState.of(run)
    load_into(state, workdir, step)
    return state


def load_result(workdir: Workdir, run: Run) -> TrainingState:
    """Return the state that is evaluated and exported, as `evaluation.checkpoint` says.

    Raises:
        UsageError: The run has no checkpoint.
        DataError: The checkpoint belongs to another run, or is corrupt.
    """
    is_newest = run.config.evaluation.checkpoint == "newest"
    return load_state(workdir, run, None if is_newest else workdir.result_step(run) or None)


def load_into(state: TrainingState, workdir: Workdir, step: int | None = None) -> None:
    """Load a checkpoint into an existing state, and its averages into `averaged_model`.

    Raises:
        UsageError: The run has no checkpoint.
        DataError: The checkpoint belongs to another run, or is corrupt.
    """
    _restore(state, workdir, step)
    state.average()


def go_on_from(state: TrainingState, fork: Fork) -> None:
    """Give `state` everything that the checkpoint of a fork holds.

    Raises:
        DataError: The checkpoint is gone, or corrupt.
    """
    _restore(state, Workdir(fork.workdir), fork.step)


def _restore(state: TrainingState, workdir: Workdir, step: int | None) -> None:
    try:
        loaded = newest_intact(workdir) if step is None else (step, read_checkpoint(workdir, step))
    except CorruptCheckpointError as error:
        raise DataError(f"{error}; train on, or evaluate another step") from error
    if loaded is None:
        raise UsageError(f"{workdir} has no checkpoint yet; train it with `mobilenet train`")
    step, tensors = loaded
    assign(named_variables(state), tensors, checkpoint_path(workdir, step))
