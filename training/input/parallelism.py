"""How many images are decoded at a time: as many as there are cores, from the first step on."""

from __future__ import annotations

import tensorflow as tf

from preprocessing import limits

PARALLEL_CALLS = max(2, limits.num_cores())


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return `dataset` without TensorFlow's tuner, whose most is what `PARALLEL_CALLS` is anyway.

    The tuner's thread sleeps for as long as the last tuning was apart, up to a minute, and can miss
    the end of its iterator. Whoever releases the iterator, at the end of an evaluation or of the
    training, then waits for that thread, and holds Python's lock meanwhile (TensorFlow 2.21,
    `tensorflow/core/data/root_dataset.cc`, `tensorflow/core/framework/model.cc`).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
