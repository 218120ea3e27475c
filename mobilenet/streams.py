"""The streams behind `Records.dataset`: those of a run, as pixels."""

from __future__ import annotations

import tensorflow as tf

from preprocessing.errors import UsageError
from preprocessing.records.schema import SPLITS, Manifest
from training.config import RunConfig
from training.input.data import (
    SINGLE_PROCESS,
    evaluation_batches,
    evaluation_steps,
    finished,
    training_batches,
)
from training.input.records import Records


def batches(
    folder: str,
    manifest: Manifest,
    config: RunConfig,
    *,
    split: str,
    size: int,
    batch: int,
    seed: int,
) -> tf.data.Dataset:
    """Return what `Records.dataset` promises."""
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is none of {', '.join(SPLITS)}")
    for name, value in (("size", size), ("batch", batch)):
        if value < 1:
            raise UsageError(f"{name} must be positive, got {value}")
    if not manifest.num_examples(split):
        raise UsageError(f"{folder} has no {split} images")
    source = Records(folder, manifest, split)
    if split == "train":
        stream = training_batches(
            source,
            config.augmentation,
            size=size,
            seed=seed,
            batch_per_replica=batch,
            share=SINGLE_PROCESS,
            start_step=0,
        )
        return finished(stream).map(_as_pixels)
    count = evaluation_steps(source.num_examples, batch)
    padded = evaluation_batches(
        source, config.evaluation, size=size, batch_per_replica=batch, share=SINGLE_PROCESS
    )
    return padded.take(count).map(_without_padding)


@tf.autograph.experimental.do_not_convert
def _as_pixels(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return (images + 1.0) * 127.5, labels


@tf.autograph.experimental.do_not_convert
def _without_padding(
    images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    is_example = weights > 0
    return _as_pixels(tf.boolean_mask(images, is_example), tf.boolean_mask(labels, is_example))
