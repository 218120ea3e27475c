"""Starting from weights that someone else trained: fine-tuning, and importing published files."""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np

from preprocessing.errors import UsageError
from training import slim_checkpoint
from training import workdir as workdirs
from training.architecture import Architecture, architecture
from training.checkpoint import Checkpoints
from training.recipes import published
from training.schedule import IMAGENET_EXAMPLES
from training.slim_checkpoint import is_head, slim_variables
from training.state import TrainingState, values
from training.variants import Variant


def start_from(path: str, state: TrainingState) -> None:
    """Give model and averages the averaged weights of a slim checkpoint.

    A classifier for another number of classes is left as it was initialised, aloud.

    Raises:
        UsageError: There is no checkpoint.
        DataError: It does not fit; lists what is missing and what has the wrong shape.
    """
    layout = state.layout
    wanted = slim_variables(state.model, layout)
    theirs = slim_checkpoint.head_shape(path, layout)
    ours = tuple(wanted[f"{layout.scope}/{layout.classifier.scope}/weights"].shape)
    if theirs != ours:
        wanted = {name: each for name, each in wanted.items() if not is_head(name)}
        print(
            f"train: the classifier of {path} has {theirs[-1] if theirs else 'no'} outputs, "
            f"{ours[-1]} are needed; it is dropped and learned anew",
            file=sys.stderr,
        )
    found, _ = slim_checkpoint.read(path, {name: tuple(v.shape) for name, v in wanted.items()})
    for name, variable in wanted.items():
        variable.assign(found[name])
    state.ema.restart(values(state.model))


def import_checkpoint(path: str, variant: Variant, workdir: str, weights: str) -> dict[str, Any]:
    """Make a finished run out of a published checkpoint, to evaluate and export.

    Args:
        path: Prefix, folder or `.tgz`.
        variant: What it is.
        workdir: Run to make.
        weights: What the run's averages become: `ema`, `raw` or `notebook`.

    Returns:
        The run's progress.
    """
    outputs = slim_checkpoint.head_shape(path, architecture(variant, 1))[-1:]
    if not outputs:
        raise UsageError(f"{path} holds no {variant.family} with a classifier")
    run = workdirs.Run.imported(published(variant.name), outputs[0] - 1, IMAGENET_EXAMPLES)
    state = TrainingState.of(run)
    layout = state.layout
    shapes = {name: tuple(v.shape) for name, v in slim_variables(state.model, layout).items()}
    averages, step = slim_checkpoint.read(path, shapes, weights)
    raw = averages
    if slim_checkpoint.has(path, list(shapes)):
        raw, _ = slim_checkpoint.read(path, shapes, "raw")
    _assign(state.model, layout, raw)
    _assign(state.averaged_model, layout, averages)
    state.ema.restart(values(state.averaged_model))
    state.optimizer.iterations.assign(step)
    workdirs.claim(workdir, run)
    checkpoints = Checkpoints(workdir, state, keep=1)
    checkpoints.save(step)
    checkpoints.wait()
    progress = {"step": step, "num_steps": step, "complete": True, "imported": weights}
    workdirs.write_progress(workdir, progress)
    return progress


def _assign(model: keras.Model, layout: Architecture, named: dict[str, np.ndarray]) -> None:
    for name, variable in slim_variables(model, layout).items():
        variable.assign(named[name])
