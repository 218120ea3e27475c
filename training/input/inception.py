"""Inception preprocessing: JPEG bytes become the network's input, in training and evaluation.

slim's `preprocessing/inception_preprocessing.py`, which its recipe names `inception_v2`:
`fast_mode`, no bounding boxes. Each function is a function of its arguments alone.
Letters: H, W source height and width; S side of the result, pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from training.config import AugmentationConfig, EvaluationConfig
from training.input.randaugment import rand_augment, random_erasing

EVAL_CROP_FRACTION = 0.875  # of each side
RESIZE_TO_CROP = 256 / 224
MIN_OBJECT_COVERED = 0.1  # with the whole image as the object: no crop below 10 % of the area
MAX_BRIGHTNESS_DELTA = 32.0 / 255.0
SATURATION_RANGE = (0.5, 1.5)
EDGE_COLUMNS = 1


def train_view(
    jpeg: tf.Tensor, config: AugmentationConfig, size: int, seed: tf.Tensor
) -> tf.Tensor:
    """Return one training view: random crop, TF1 bilinear resize, flip, brightness, saturation.

    Training runs the two halves separately: `crop` on the host, `distort` on the device.

    Args:
        jpeg: Scalar string, an RGB or grayscale JPEG.
        config: The augmentation.
        size: S.
        seed: `int64 [2]`. The same seed gives the same view.

    Returns:
        `float32 [S, S, 3]` in [-1, 1].
    """
    pixels, draws = crop(jpeg, config, size, seed)
    return distort(pixels[tf.newaxis], draws[tf.newaxis])[0]


def crop(
    jpeg: tf.Tensor, config: AugmentationConfig, size: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Crop and resize one image, and draw the random numbers of the other distortions.

    Only the crop leaves the decoder: rows above it are entropy-decoded but not transformed,
    rows below it are not read at all.

    Args:
        jpeg: Scalar string, an RGB or grayscale JPEG.
        config: The augmentation.
        size: S.
        seed: `int64 [2]`. The same seed gives the same view.

    Returns:
        `(pixels, draws)`: `[S, S, 3]` in [0, 255] of type `config.pixels`, and the `float32 [4]`
        of `draw`.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
    begin, extent = sample_crop(tf.io.extract_jpeg_shape(jpeg), config, seeds[0])
    # TensorFlow's kernel resizes floats in half the time.
    pixels = _resize(tf.cast(_decode_window(jpeg, begin, extent), tf.float32), size)
    pixels = _heavy_augmentation(pixels, config, seed)
    if config.pixels == "uint8":
        pixels = tf.cast(pixels + 0.5, tf.uint8)
    return pixels, draw(config, seeds[1:])


def _heavy_augmentation(
    pixels: tf.Tensor, config: AugmentationConfig, seed: tf.Tensor
) -> tf.Tensor:
    """Apply RandAugment and random erasing, which only some recipes use."""
    fold_in = tf.random.experimental.stateless_fold_in  # other draws stay the same
    if config.randaugment_layers:
        layers, magnitude = config.randaugment_layers, config.randaugment_magnitude
        pixels = rand_augment(pixels, layers, magnitude, fold_in(seed, 1))
    if config.erasing_probability:
        pixels = random_erasing(pixels, config.erasing_probability, fold_in(seed, 2))
    return pixels


def draw(config: AugmentationConfig, seeds: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the random numbers of one image's flip and colours.

    Args:
        config: The augmentation.
        seeds: Four of `int64 [2]`: flip, brightness, saturation, order.

    Returns:
        `float32 [4]`: 1 for mirrored, brightness to add, factor of the saturation, 1 for
        saturation before brightness.
    """
    flip, brightness, saturation, order = seeds
    mirrored = tf.random.stateless_uniform([], flip) < 0.5
    case = tf.random.stateless_uniform([], order, maxval=4, dtype=tf.int32)
    delta, factors = (MAX_BRIGHTNESS_DELTA, SATURATION_RANGE) if config.color else (0.0, (1.0, 1.0))
    return tf.stack(
        [
            tf.cast(mirrored & config.flip, tf.float32),
            tf.random.stateless_uniform([], brightness, -delta, delta),
            tf.random.stateless_uniform([], saturation, *factors),
            tf.cast((case > 0) & (config.color_order == "mixed"), tf.float32),
        ]
    )


def distort(pixels: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flip a whole batch and change its colours, elementwise, so that it fuses on any device.

    Brightness and saturation follow slim's fast mode: no hue, no contrast, one clip at the end.

    Args:
        pixels: `uint8` or `float32 [B, S, S, 3]` in [0, 255].
        draws: `float32 [B, 4]`, results of `draw`.

    Returns:
        `float32 [B, S, S, 3]` in [-1, 1].
    """
    mirrored, brightness, saturation, late = (
        column[:, tf.newaxis, tf.newaxis, tf.newaxis] for column in tf.unstack(draws, axis=1)
    )
    images = tf.cast(pixels, tf.float32) * (1 / 255)
    images = tf.where(mirrored > 0, tf.reverse(images, axis=[2]), images)
    images = _saturate(images + brightness * (1 - late), saturation) + brightness * late
    return _to_network_range(tf.clip_by_value(images, 0.0, 1.0))


def _saturate(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return `tf.image.adjust_saturation` without the conversion to HSV and back.

    Scaling S at constant H and V moves each channel c to `V - (V - c) S' / S`; with
    S = (V - min) / V and S' = min(1, factor S), the quotient is `min(factor, V / (V - min))`.
    (TensorFlow's op also turns gray a hue that rounds to 360 degrees: one pixel in a million.)
    """
    red, green, blue = tf.split(images, 3, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    spread = value - tf.minimum(tf.minimum(red, green), blue)
    # Brightness can make a pixel negative, where TensorFlow's S is 0, too.
    scale = tf.minimum(factor, tf.math.divide_no_nan(tf.maximum(value, 0.0), spread))
    return value - (value - images) * scale


def sample_crop(
    shape: tf.Tensor, config: AugmentationConfig, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return a random crop; the whole image after 100 failures.

    Args:
        shape: `int32 [3]`: H, W and 3.
        config: Ranges of area and aspect ratio.
        seed: `int64 [2]`.

    Returns:
        `(begin, extent)`, each `int32 [3]`, the arguments of `tf.slice`.
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


def eval_view(jpeg: tf.Tensor, size: int, config: EvaluationConfig) -> tf.Tensor:
    """Return the image that evaluation sees: `inception` or `resize_256`, see `EvaluationConfig`.

    Args:
        jpeg: Scalar string, an RGB or grayscale JPEG.
        size: S.
        config: The crop and the decoder.

    Returns:
        `float32 [S, S, 3]` in [-1, 1].
    """
    dct_method = "INTEGER_ACCURATE" if config.precise else ""
    if config.crop == "inception":
        begin, extent = _central_window(tf.io.extract_jpeg_shape(jpeg))
        pixels = _decode_window(jpeg, begin, extent, dct_method)
        image = _resize(tf.image.convert_image_dtype(pixels, tf.float32), size)
    else:
        pixels = tf.io.decode_jpeg(jpeg, channels=3, dct_method=dct_method)
        image = _central_square(tf.image.convert_image_dtype(pixels, tf.float32), size)
    return _to_network_range(image)


def _central_window(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return begin and extent of what `tf.image.central_crop` keeps of `int32 [3]` (H, W, 3)."""
    sides = tf.cast(shape[:2], tf.float64)
    begin = tf.cast((sides - sides * EVAL_CROP_FRACTION) / 2, tf.int32)
    return begin, shape[:2] - 2 * begin


def _central_square(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize the shorter side to S * 256 / 224, and return the centre `[S, S, 3]`."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = size * RESIZE_TO_CROP / tf.reduce_min(sides)
    scaled = tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), size)
    resized = tf.clip_by_value(tf.image.resize(image, scaled, antialias=True), 0.0, 1.0)
    return tf.ensure_shape(tf.image.resize_with_crop_or_pad(resized, size, size), [size, size, 3])


def _decode_window(
    jpeg: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor, dct_method: str = ""
) -> tf.Tensor:
    """Decode a part of a JPEG, with the same bits as a slice of the whole.

    Args:
        jpeg: Scalar string.
        begin: `int32 [2 or more]`: top and left.
        extent: `int32 [2 or more]`: height and width.
        dct_method: Argument of `tf.io.decode_jpeg`.

    Returns:
        `uint8 [height, width, 3]`.
    """
    # Where colour is subsampled, the decoder needs the neighbouring column to blend it in.
    before = tf.minimum(begin[1], EDGE_COLUMNS)
    after = tf.minimum(tf.io.extract_jpeg_shape(jpeg)[1] - begin[1] - extent[1], EDGE_COLUMNS)
    window = tf.stack([begin[0], begin[1] - before, extent[0], before + extent[1] + after])
    pixels = tf.io.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method=dct_method)
    return pixels[:, before : before + extent[1]]


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize `[H, W, 3]` to `[S, S, 3]` by TF1's kernel: no half-pixel centres, no antialiasing."""
    resized = tf.raw_ops.ResizeBilinear(
        images=image[tf.newaxis], size=[size, size], align_corners=False, half_pixel_centers=False
    )
    return tf.ensure_shape(resized[0], [size, size, 3])


def _to_network_range(image: tf.Tensor) -> tf.Tensor:
    """Map [0, 1] to [-1, 1]."""
    return (image - 0.5) * 2.0
