"""Untrained runs for measurements of every variant: random filters and a fitted head.

Random weights alone say nothing about agreement, because every class then scores the same. Here
the filters stay random, the BN statistics are those of real images, and ridge regression fits the
classifier to the features of these images. Formats are compared on the same images, on which the
network is therefore right and certain.
"""

from __future__ import annotations

import colorsys
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from benchmarks.records import write_records
from preprocessing.records.schema import Manifest
from training.config import EvaluationConfig
from training.config.recipes import recipe
from training.input.inception import eval_view
from training.input.records import Records
from training.models.mobilenet import layer_name
from training.models.variants import Variant
from training.optimization.state import TrainingState, values
from training.workdir.checkpoint import Checkpoints
from training.workdir.progress import Progress
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir

JPEG_SIDE = 96  # pixels
NUM_DIGITS = 6
RIDGE = 1e-2
MARGIN = 8.0  # between the right class and the others, in logits
# This keeps most units in the linear range of ReLU6. Training keeps noise from growing with depth;
# random filters around zero do not, so that any rounding would decide the class.
BETA = 1.5


def write_digits(folder: Path, *, num_classes: int, train: int, validation: int) -> Manifest:
    """Write records of digits, which are labelled as the first six of `num_classes` classes.

    The validation images are the first of the training images.
    """
    digits = load_digits(n_class=NUM_DIGITS)
    order = np.random.default_rng(0).permutation(len(digits.target))[:train]
    images = [(_photograph(digits, index), int(digits.target[index]) + 1) for index in order]
    splits = {"train": images, "validation": images[:validation]}
    return write_records(str(folder), splits, num_classes)


def _photograph(digits: Any, index: int) -> bytes:
    """Return a JPEG: white on one colour per digit, which filters of any kind let through."""
    stroke = digits.images[index][..., np.newaxis] / 16.0
    ground = colorsys.hsv_to_rgb(digits.target[index] / NUM_DIGITS, 1.0, 0.9)
    pixels = stroke + (1 - stroke) * np.asarray(ground)
    image = tf.clip_by_value(tf.image.resize(pixels, [JPEG_SIDE] * 2, "bicubic"), 0, 1)
    encoded = tf.io.encode_jpeg(tf.image.convert_image_dtype(image, tf.uint8), quality=95)
    content: bytes = encoded.numpy()
    return content


def write_run(workdir: Path, variant: str, records: Path, manifest: Manifest) -> Run:
    """Write a finished run of `variant` with random filters, as `import-checkpoint` would."""
    run = Run.imported(
        recipe("published", Variant.parse(variant)),
        len(manifest.classes),
        manifest.num_examples("train"),
        checkpoint=None,
    )
    state = TrainingState.of(run)
    images, labels = _training_images(records, manifest, run.config.variant.resolution)
    _give_statistics(state, images)
    _fit_head(state, images, labels)
    state.ema.restart(values(state.model))
    os.makedirs(workdir, exist_ok=True)
    opened = Workdir(str(workdir))
    opened.claim(run)
    state.optimizer.iterations.assign(1)
    checkpoints = Checkpoints(opened, state, keep=1)
    checkpoints.save(1)
    checkpoints.wait()
    opened.write_progress(Progress(step=1, num_steps=1, complete=True))
    return run


def _training_images(records: Path, manifest: Manifest, size: int) -> tuple[np.ndarray, np.ndarray]:
    split = Records(str(records), manifest, "train")
    examples = [split.read(tf.constant(index, tf.int64)) for index in range(split.num_examples)]
    images = [eval_view(jpeg, size, EvaluationConfig()).numpy() for jpeg, _ in examples]
    return np.stack(images), np.asarray([int(label) for _, label in examples])


def _give_statistics(state: TrainingState, images: np.ndarray) -> None:
    """Set the BN statistics to those of a batch of real images."""
    for convolution in state.layout.convolutions():
        if not convolution.linear:
            norm = state.model.get_layer(f"{layer_name(convolution.scope)}_BatchNorm")
            norm.beta.assign(tf.fill(norm.beta.shape, BETA))
    norms = [layer for layer in state.model.layers if layer.name.endswith("_BatchNorm")]
    momentum = norms[0].momentum
    for norm in norms:
        norm.momentum = 0.0
    state.model(images[:64], training=True)
    for norm in norms:
        norm.momentum = momentum


def _fit_head(state: TrainingState, images: np.ndarray, labels: np.ndarray) -> None:
    run = tf.function(lambda batch: state.features(batch, training=False))
    chunks = np.array_split(images, max(1, len(images) // 32))
    features = np.concatenate([run(tf.constant(chunk)).numpy() for chunk in chunks])
    features = features.reshape(len(images), -1).astype(np.float64)
    num_outputs = state.classifier.filters
    targets = np.where(labels[:, np.newaxis] == np.arange(num_outputs), MARGIN, 0.0)
    targets[:, [0, *range(NUM_DIGITS + 1, num_outputs)]] = -MARGIN
    mean, offset = features.mean(axis=0), targets.mean(axis=0)
    centred = features - mean
    scale = RIDGE * np.trace(centred @ centred.T)
    # There are fewer images than features, so the dual form is smaller.
    dual = np.linalg.solve(centred @ centred.T + scale * np.eye(len(images)), targets - offset)
    kernel = centred.T @ dual
    state.classifier.kernel.assign(kernel.reshape(state.classifier.kernel.shape))
    state.classifier.bias.assign(offset - mean @ kernel)
