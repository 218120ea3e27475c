"""slim's preprocessing in the plain way: decode everything, slice, one image after the other.

`training.input.inception` must equal it, seed for seed. It consists of TensorFlow's own image
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from training.config import AugmentationConfig
from training.input.inception import MAX_BRIGHTNESS_DELTA, SATURATION_RANGE, sample_crop


def train_view(jpeg: Any, config: AugmentationConfig, size: int, seed: Any) -> Any:
    """Return the training view `float32 [S, S, 3]` in [-1, 1] of a JPEG."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
    image = tf.image.convert_image_dtype(tf.io.decode_jpeg(jpeg, channels=3), tf.float32)
    begin, extent = sample_crop(tf.shape(image), config, seeds[0])
    image = tf.raw_ops.ResizeBilinear(
        images=tf.slice(image, begin, extent)[tf.newaxis],
        size=[size, size],
        align_corners=False,
        half_pixel_centers=False,
    )[0]
    if config.flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    return (distort_color(image, config.color_order, seeds[2:]) - 0.5) * 2.0


def distort_color(image: Any, order: str, seeds: Sequence[Any]) -> Any:
    """Distort `[S, S, 3]` in [0, 1], by seeds of brightness, saturation and order."""

    def brightness(x: Any) -> Any:
        return tf.image.stateless_random_brightness(x, MAX_BRIGHTNESS_DELTA, seeds[0])

    def saturation(x: Any) -> Any:
        return tf.image.stateless_random_saturation(x, *SATURATION_RANGE, seeds[1])

    distorted = saturation(brightness(image))
    if order == "mixed":
        case = tf.random.stateless_uniform([], seeds[2], maxval=4, dtype=tf.int32)
        distorted = tf.cond(
            tf.equal(case, 0), lambda: distorted, lambda: brightness(saturation(image))
        )
    return tf.clip_by_value(distorted, 0.0, 1.0)
