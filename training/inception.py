"""Inception preprocessing: JPEG bytes to the image the network sees, in training and in evaluation.

slim's `preprocessing/inception_preprocessing.py`, which its recipe names `inception_v2`:
`fast_mode`, no bounding boxes. Each function is a function of its arguments alone.
Letters: H, W source height and width; S side of the result, pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from training.config import AugmentationConfig, EvaluationConfig
from training.randaugment import rand_augment, random_erasing

EVAL_CROP_FRACTION = 0.875  # of each side
RESIZE_TO_CROP = 256 / 224
MIN_OBJECT_COVERED = 0.1  # with the whole image as the object: no crop below 10 % of the area
MAX_BRIGHTNESS_DELTA = 32.0 / 255.0
SATURATION_RANGE = (0.5, 1.5)


def train_view(jpeg: Any, config: AugmentationConfig, size: int, seed: Any) -> Any:
    """Random crop, TF1 bilinear resize, flip, brightness, saturation; more if `config` says so.

    Args:
        jpeg: Scalar string, an RGB or grayscale JPEG.
        config: What to do.
        size: S.
        seed: `int64 [2]`. The same seed gives the same view.

    Returns:
        `float32 [S, S, 3]` in [-1, 1].
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
    image = _decode(jpeg)
    begin, extent = sample_crop(tf.shape(image), config, seeds[0])
    image = _resize(tf.slice(image, begin, extent), size)
    if config.flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    if config.color:
        image = distort_color(image, config.color_order, seeds[2:])
    return _to_network_range(_heavy_augmentation(image, config, seed))


def _heavy_augmentation(image: Any, config: AugmentationConfig, seed: Any) -> Any:
    """RandAugment and random erasing, of recipes that ask for them, on an image in [0, 1]."""
    fold_in = tf.random.experimental.stateless_fold_in  # other draws stay as they are
    if config.randaugment_layers:
        layers, magnitude = config.randaugment_layers, config.randaugment_magnitude
        image = rand_augment(image * 255.0, layers, magnitude, fold_in(seed, 1)) / 255.0
    if config.erasing_probability:
        probability = config.erasing_probability
        image = random_erasing(image * 255.0, probability, fold_in(seed, 2)) / 255.0
    return image


def distort_color(image: Any, order: str, seeds: Sequence[Any]) -> Any:
    """Brightness and saturation in slim's fast mode; no hue, no contrast.

    Args:
        image: `float32 [S, S, 3]` in [0, 1].
        order: `brightness_first`, or `mixed`: saturation first in three of four images.
        seeds: Three of `int64 [2]`: brightness, saturation, order.

    Returns:
        `float32 [S, S, 3]` in [0, 1], clipped once, at the end.
    """

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


def sample_crop(shape: Any, config: AugmentationConfig, seed: Any) -> tuple[Any, Any]:
    """A random crop; the whole image after 100 failures.

    Args:
        shape: `int32 [3]`: H, W and 3.
        config: Ranges of area and aspect ratio.
        seed: `int64 [2]`.

    Returns:
        `(begin, extent)`, `int32 [3]` each, as `tf.slice` takes them.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=(config.min_aspect_ratio, config.max_aspect_ratio),
        area_range=(config.min_area, config.max_area),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return begin, extent


def eval_view(jpeg: Any, size: int, config: EvaluationConfig) -> Any:
    """The image as evaluation sees it: `inception` or `resize_256`, see `EvaluationConfig`.

    Args:
        jpeg: Scalar string, an RGB or grayscale JPEG.
        size: S.
        config: Which crop and which decoder.

    Returns:
        `float32 [S, S, 3]` in [-1, 1].
    """
    image = _decode(jpeg, "INTEGER_ACCURATE" if config.precise else "")
    if config.crop == "inception":
        return _to_network_range(_resize(tf.image.central_crop(image, EVAL_CROP_FRACTION), size))
    return _to_network_range(_central_square(image, size))


def _central_square(image: Any, size: int) -> Any:
    """`[H, W, 3]` to `[S, S, 3]`: shorter side to S * 256 / 224, then the centre."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = size * RESIZE_TO_CROP / tf.reduce_min(sides)
    scaled = tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), size)
    resized = tf.clip_by_value(tf.image.resize(image, scaled, antialias=True), 0.0, 1.0)
    return tf.ensure_shape(tf.image.resize_with_crop_or_pad(resized, size, size), [size, size, 3])


def _decode(jpeg: Any, dct_method: str = "") -> Any:
    """Scalar string to `float32 [H, W, 3]` in [0, 1]."""
    pixels = tf.io.decode_jpeg(jpeg, channels=3, dct_method=dct_method)
    return tf.image.convert_image_dtype(pixels, tf.float32)


def _resize(image: Any, size: int) -> Any:
    """`[H, W, 3]` to `[S, S, 3]` by TF1's kernel: no half-pixel centres, no antialiasing."""
    resized = tf.raw_ops.ResizeBilinear(
        images=image[tf.newaxis], size=[size, size], align_corners=False, half_pixel_centers=False
    )
    return tf.ensure_shape(resized[0], [size, size, 3])


def _to_network_range(image: Any) -> Any:
    """[0, 1] to [-1, 1]."""
    return (image - 0.5) * 2.0
