"""Weights that others trained: fine-tuning from them, and importing published files."""

from __future__ import annotations

import logging

import keras
import numpy as np

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.records.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from training.config.recipes import published
from training.models.architecture import architecture
from training.models.layout import Architecture
from training.models.variants import Variant
from training.optimization.state import TrainingState, values
from training.weights import keras_applications, slim_checkpoint
from training.weights.content_digest import checkpoint_digest
from training.weights.slim_checkpoint import is_head, slim_shapes, slim_variables
from training.workdir.checkpoint import Checkpoints
from training.workdir.progress import Progress
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)

KERAS_ENDING = ".h5"
BACKGROUND_MARGIN = 20.0  # distance of the logit below the least bias
BACKGROUND_ADDED = (
    "%s: the classifier of %s has no output for the background; one that never wins is put first, "
    "and its outputs are taken as the classes in the order of their synsets, as in slim and Keras"
)


def start_from(path: str, state: TrainingState) -> None:
    """Give model and averages the weights of a slim checkpoint (its averages) or a Keras file.

    A checkpoint without averages gives its raw weights, with a warning. A classifier for another
    number of classes keeps its initial values, with a warning. One for ImageNet's 1,000 classes
    without the background gets one that never wins.

    Raises:
        UsageError: The path holds no checkpoint.
        DataError: The weights do not fit; the message lists missing variables and wrong shapes.
    """
    layout = state.layout
    wanted = slim_variables(state.model, layout)
    ours = wanted[f"{layout.scope}/{layout.classifier.scope}/weights"].shape[-1]
    theirs: int | None
    if path.endswith(KERAS_ENDING):
        found = keras_applications.read_named(path, state.variant)
        theirs = found[f"{layout.scope}/{layout.classifier.scope}/weights"].shape[-1]
    else:
        theirs = (slim_checkpoint.head_shape(path, layout) or (None,))[-1]
    lacks_background = theirs == NUM_CLASSES == ours - 1
    if lacks_background:
        logger.warning(BACKGROUND_ADDED, "train", path)
    elif theirs != ours:
        wanted = {name: variable for name, variable in wanted.items() if not is_head(name)}
        logger.warning(
            "train: the classifier of %s has %s outputs, %d are needed; it is dropped and "
            "learned from its initial values",
            path,
            theirs or "no",
            ours,
        )
    if not path.endswith(KERAS_ENDING):
        kind = _kind_in(path, "ema", list(wanted), "train")
        shapes = {name: tuple(variable.shape) for name, variable in wanted.items()}
        if lacks_background:
            shapes = {
                name: (*shape[:-1], NUM_CLASSES) if is_head(name) else shape
                for name, shape in shapes.items()
            }
        found, _ = slim_checkpoint.read(path, shapes, kind)
    if lacks_background:
        found = _with_background(found)
    for name, variable in wanted.items():
        variable.assign(found[name])
    state.ema.restart(values(state.model))


def import_checkpoint(
    path: str,
    variant: Variant,
    workdir: Workdir,
    weights: str,
    has_background: bool | None = None,
) -> Progress:
    """Make a finished run of published weights, to evaluate and export it.

    Args:
        path: A slim checkpoint (prefix, folder or `.tgz`), or a `.weights.h5` of
            `keras.applications`, which has no background class: one that never wins is put
            before its classes.
        variant: The variant of the weights.
        workdir: Folder of the run to make.
        weights: The kind that becomes the run's averages: `ema`, `raw` or `notebook`; a Keras
            file has only one kind.
        has_background: Whether output 0 of a slim checkpoint is the background, as in slim's
            own; None means that it is unless there are ImageNet's 1,000 outputs.

    Returns:
        The run's progress.

    Raises:
        UsageError: The path holds no checkpoint, or the workdir a run that was trained.
        DataError: The weights do not fit.
    """
    if path.endswith(KERAS_ENDING):
        averages = raw = _with_background(keras_applications.read_named(path, variant))
        step = 0
    else:
        averages, raw, step, weights = _read_slim(path, variant, weights, has_background)
    scope = architecture(variant, 1).classifier.scope
    outputs = next(len(v) for name, v in raw.items() if name.endswith(f"{scope}/biases"))
    digest = checkpoint_digest(path)
    run = Run.imported(published(variant), outputs - 1, NUM_TRAIN_IMAGES, digest)
    if known := _imported_before(workdir, run, weights):
        logger.info("import-checkpoint: %s holds these weights already; nothing to do", workdir)
        return known
    state = TrainingState.of(run)
    _assign(state.model, state.layout, raw)
    _assign(state.averaged_model, state.layout, averages)
    state.ema.restart(values(state.averaged_model))
    state.optimizer.iterations.assign(step)
    workdir.claim(run)
    workdir.clear_results()
    workdir.write_run(run)
    checkpoints = Checkpoints(workdir, state, keep=1)
    checkpoints.save(step)
    checkpoints.wait()
    progress = Progress(step=step, num_steps=step, complete=True, imported=weights)
    workdir.write_progress(progress)
    return progress


def _imported_before(workdir: Workdir, run: Run, weights: str) -> Progress | None:
    """Return the progress of a workdir that holds the same weights, complete."""
    if not storage.exists(workdir.config_file):
        return None
    stored, progress = workdir.read_run(), workdir.read_progress()
    same = (stored.initial_checkpoint, stored.config_digest, progress.imported) == (
        *(run.initial_checkpoint, run.config_digest),
        weights,
    )
    if not same or not progress.complete or progress.step not in workdir.checkpoint_steps():
        return None
    return progress


Named = dict[str, np.ndarray]


def _read_slim(
    path: str, variant: Variant, weights: str, has_background: bool | None
) -> tuple[Named, Named, int, str]:
    """Return averages, raw weights (the same if there are none), step and kind of the averages.

    A classifier without the background gets one.
    """
    outputs = slim_checkpoint.head_shape(path, architecture(variant, 1))[-1:]
    if not outputs or outputs[0] < 1:
        raise UsageError(f"{path} holds no {variant.family} with a classifier")
    shapes = slim_shapes(architecture(variant, outputs[0]))
    kind = _kind_in(path, weights, list(shapes), "import-checkpoint")
    averages, step = slim_checkpoint.read(path, shapes, kind)
    logger.info(
        "import-checkpoint: %s is of TensorFlow's format %s",
        path,
        slim_checkpoint.describe_format(path),
    )
    raw = averages
    if slim_checkpoint.has(path, list(shapes)):
        raw, _ = slim_checkpoint.read(path, shapes, "raw")
    if has_background is None:
        has_background = outputs[0] != NUM_CLASSES
    if not has_background:
        logger.warning(BACKGROUND_ADDED, "import-checkpoint", path)
        averages, raw = _with_background(averages), _with_background(raw)
    return averages, raw, step, kind


def _kind_in(path: str, wanted: str, names: list[str], command: str) -> str:
    """Return the wanted kind of weights, or `raw` with a warning where there are no averages."""
    if wanted == "raw" or not slim_checkpoint.holds_only_raw(path, names):
        return wanted
    logger.warning("%s: %s holds no moving averages; its raw weights are used", command, path)
    return "raw"


def _with_background(named: Named) -> Named:
    """Return the classifier with a new output 0 whose logit is below every other."""
    padded = dict(named)
    for name in filter(is_head, named):
        value = named[name]
        first = np.zeros_like(value[..., :1])
        if name.endswith("/biases"):
            first += value.min() - BACKGROUND_MARGIN
        padded[name] = np.concatenate([first, value], axis=-1)
    return padded


def _assign(model: keras.Model, layout: Architecture, named: Named) -> None:
    for name, variable in slim_variables(model, layout).items():
        variable.assign(named[name])
