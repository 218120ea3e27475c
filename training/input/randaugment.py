"""RandAugment and random erasing as TensorFlow operations on one image; no Python per image.

Cubuk et al. 2019 (arXiv 1909.13719) with the operations and ranges of timm's
`rand-m9-mstd0.5`, with which its MobileNetV2 figures were reached; Zhong et al. 2017
(arXiv 1708.04896). Images are `float32 [S, S, 3]` in [0, 255] throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

MAX_MAGNITUDE = 10.0
MAGNITUDE_STDDEV = 0.5
APPLY_PROBABILITY = 0.5  # probability of every drawn operation
MEAN_COLOR = (124.0, 116.0, 104.0)  # mean of ImageNet; it fills what a warp uncovers
STDDEV_COLOR = (58.0, 57.0, 57.0)
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT_RATIO = (0.3, 1 / 0.3)
ERASING_ATTEMPTS = 10

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (image, strength in [0, 1]) -> image


def rand_augment(image: tf.Tensor, num_layers: int, magnitude: float, seed: tf.Tensor) -> tf.Tensor:
    """Apply `num_layers` operations drawn from `OPERATIONS`, each with probability one half.

    Args:
        image: `float32 [S, S, 3]` in [0, 255].
        num_layers: Number of operations to draw.
        magnitude: Mean strength, 0 to 10; every operation draws its own strength around it.
        seed: `int64 [2]`. The same seed gives the same image.

    Returns:
        `float32 [S, S, 3]` in [0, 255].
    """
    for layer in tf.unstack(tf.random.experimental.stateless_split(seed, num_layers)):
        which, strength, sign, applied = tf.unstack(
            tf.random.experimental.stateless_split(layer, 4)
        )
        drawn = magnitude + MAGNITUDE_STDDEV * tf.random.stateless_normal([], strength)
        level = tf.clip_by_value(drawn, 0.0, MAX_MAGNITUDE) / MAX_MAGNITUDE
        level *= tf.where(tf.random.stateless_uniform([], sign) < 0.5, -1.0, 1.0)
        index = tf.random.stateless_uniform([], which, 0, len(OPERATIONS), tf.int32)
        branches = [
            lambda operation=operation, image=image, level=level: operation(image, level)
            for operation in OPERATIONS.values()
        ]
        skipped = tf.random.stateless_uniform([], applied) >= APPLY_PROBABILITY
        image = tf.switch_case(
            tf.where(skipped, len(branches), index), [*branches, lambda image=image: image]
        )
        image = tf.ensure_shape(tf.clip_by_value(image, 0.0, 255.0), image.shape)
    return image


def random_erasing(image: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Replace a random rectangle, with `probability`, by noise of ImageNet's mean and deviation.

    Args:
        image: `float32 [S, S, 3]` in [0, 255].
        probability: Probability that the image is changed.
        seed: `int64 [2]`.

    Returns:
        `float32 [S, S, 3]` in [0, 255].
    """
    size = image.shape[0]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    tries = [ERASING_ATTEMPTS]
    area = tf.random.stateless_uniform(tries, seeds[0], *ERASED_AREA) * size * size
    log_ratio = tf.random.stateless_uniform(
        tries, seeds[1], *(math.log(ratio) for ratio in ERASED_ASPECT_RATIO)
    )
    sides = tf.stack([tf.sqrt(area * tf.exp(log_ratio)), tf.sqrt(area / tf.exp(log_ratio))], axis=1)
    sides = tf.cast(tf.round(sides), tf.int32)  # [tries, 2]: height and width
    fits = tf.reduce_all(sides < size, axis=1)
    height_width = sides[tf.argmax(fits)]
    top_left = tf.cast(
        tf.random.stateless_uniform([2], seeds[2]) * tf.cast(size - height_width + 1, tf.float32),
        tf.int32,
    )
    erased = tf.random.stateless_uniform([], seeds[3]) < probability
    rows, columns = (
        (tf.range(size) >= top_left[axis]) & (tf.range(size) < top_left[axis] + height_width[axis])
        for axis in (0, 1)
    )
    inside = rows[:, None] & columns[None] & erased & tf.reduce_any(fits)
    noise = tf.random.stateless_normal(image.shape, seeds[4]) * STDDEV_COLOR + MEAN_COLOR
    return tf.where(inside[..., None], tf.clip_by_value(noise, 0.0, 255.0), image)


def _blend(degenerate: tf.Tensor, image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Blend from a degenerate image to beyond the image, by timm's factor of 0.1 to 1.9."""
    factor = tf.abs(level) * 1.8 + 0.1
    degenerate = tf.round(degenerate)  # Pillow rounds to whole levels
    return degenerate + factor * (image - degenerate)


def _gray(image: tf.Tensor) -> tf.Tensor:
    """Return `[S, S, 1]`, ITU-R 601 luma as in Pillow's mode `L`."""
    return tf.reduce_sum(image * (0.299, 0.587, 0.114), axis=-1, keepdims=True)


def _auto_contrast(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    low, high = (f(image, axis=[0, 1]) for f in (tf.reduce_min, tf.reduce_max))
    return tf.where(high > low, (image - low) * 255.0 / tf.maximum(high - low, 1e-3), image)


def _equalize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Flatten each channel's histogram, as Pillow's `ImageOps.equalize`."""

    def channel(values: tf.Tensor) -> tf.Tensor:
        histogram = tf.math.bincount(values, minlength=256, maxlength=256)
        last = tf.reduce_max(tf.where(histogram > 0, tf.range(256), 0))
        step = (tf.reduce_sum(histogram) - histogram[last]) // 255
        table = (tf.cumsum(histogram, exclusive=True) + step // 2) // tf.maximum(step, 1)
        table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
        return tf.gather(table, values)

    values = tf.cast(tf.round(image), tf.int32)
    channels = [channel(values[..., index]) for index in range(3)]
    return tf.cast(tf.stack(channels, axis=-1), tf.float32)


def _invert(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return 255.0 - image


def _posterize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    bits = tf.cast(tf.abs(level) * 4.0, tf.int32)  # kept
    step = tf.cast(tf.bitwise.left_shift(1, 8 - bits), tf.float32)
    return tf.floor(image / step) * step


def _solarize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return tf.where(image < tf.floor(tf.abs(level) * 256.0), image, 255.0 - image)


def _solarize_add(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return tf.where(image < 128.0, image + tf.floor(tf.abs(level) * 110.0), image)


def _color(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _blend(_gray(image), image, level)


def _contrast(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _blend(tf.reduce_mean(tf.round(_gray(image))), image, level)


def _brightness(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _blend(tf.zeros_like(image), image, level)


def _sharpness(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Blend with Pillow's `SMOOTH` filter; the border stays unchanged."""
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    kernel = tf.tile(kernel[..., None, None], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "VALID")[0]
    inside = tf.pad(tf.ones_like(smooth[..., :1]), [[1, 1], [1, 1], [0, 0]]) > 0
    padded = tf.pad(smooth, [[1, 1], [1, 1], [0, 0]])
    return _blend(tf.where(inside, padded, image), image, level)


def _warp(image: tf.Tensor, transform: list[tf.Tensor]) -> tf.Tensor:
    """Warp so that output (x, y) shows input (a x + b y + c, d x + e y + f), bilinearly.

    Pixels from outside the input get the mean colour.
    """
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.concat([image, tf.ones_like(image[..., :1])], axis=-1)[None],
        transforms=tf.stack([tf.cast(number, tf.float32) for number in [*transform, 0.0, 0.0]])[
            None
        ],
        output_shape=image.shape[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    covered = warped[..., 3:]
    return warped[..., :3] + (1.0 - covered) * MEAN_COLOR


def _rotate(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    angle = level * (30.0 / 180.0 * math.pi)
    center = (image.shape[0] - 1) / 2
    cos, sin = tf.cos(angle), tf.sin(angle)
    shift_x = center - cos * center - sin * center
    shift_y = center + sin * center - cos * center
    return _warp(image, [cos, sin, shift_x, -sin, cos, shift_y])


def _shear_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _warp(image, [1.0, 0.3 * level, 0.0, 0.0, 1.0, 0.0])


def _shear_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _warp(image, [1.0, 0.0, 0.0, 0.3 * level, 1.0, 0.0])


def _translate_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _warp(image, [1.0, 0.0, 0.45 * level * image.shape[1], 0.0, 1.0, 0.0])


def _translate_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _warp(image, [1.0, 0.0, 0.0, 0.0, 1.0, 0.45 * level * image.shape[0]])


# timm's `_RAND_TRANSFORMS`; the sign of the level matters to warps alone.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}
