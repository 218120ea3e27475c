"""Preprocessing is slim's, and a function of its arguments."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from training.config import AugmentationConfig
from training.inception import eval_view, sample_crop, train_view


def jpeg(height: int, width: int, mode: str = "RGB") -> bytes:
    random = np.random.default_rng(height)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def tf1_bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """TF1's resize_bilinear, align_corners=False: source = target * scale, no half pixels."""
    result = image
    for axis in (0, 1):
        length = result.shape[axis]
        source = np.arange(size) * (length / size)
        low = np.floor(source).astype(int)
        high = np.minimum(low + 1, length - 1)
        weight = (source - low).reshape([-1 if a == axis else 1 for a in range(3)])
        below, above = np.take(result, low, axis), np.take(result, high, axis)
        result = below * (1 - weight) + above * weight
    return result


@pytest.mark.parametrize(("height", "width"), [(100, 75), (61, 127), (500, 375)])
def test_eval_is_the_central_crop_resized_the_tf1_way(height: int, width: int) -> None:
    encoded = jpeg(height, width)
    pixels = tf.io.decode_jpeg(encoded, channels=3).numpy() / 255
    top, left = height // 16, width // 16
    crop = pixels[top : height - top, left : width - left]
    expected = (tf1_bilinear(crop, 96) - 0.5) * 2
    np.testing.assert_allclose(eval_view(encoded, 96), expected, atol=1e-5)


def test_grayscale_becomes_three_equal_channels() -> None:
    image = eval_view(jpeg(80, 80, "L"), 32).numpy()
    assert image.shape == (32, 32, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


def test_the_same_seed_gives_the_same_view_and_another_seed_another() -> None:
    encoded = jpeg(100, 75)

    def view(seed: int) -> np.ndarray:
        return np.asarray(train_view(encoded, AugmentationConfig(), 32, [0, seed]))

    assert np.array_equal(view(1), view(1))
    assert not np.array_equal(view(1), view(2))


def test_training_views_stay_in_range_and_vary_in_every_way() -> None:
    encoded = jpeg(100, 75)
    views = tf.map_fn(
        lambda seed: train_view(encoded, AugmentationConfig(), 32, tf.stack([0, seed])),
        tf.range(200, dtype=tf.int64),
        fn_output_signature=tf.float32,
    ).numpy()
    assert views.min() >= -1
    assert views.max() <= 1
    brightness = views.mean((1, 2, 3))
    saturation = (views.max(-1) - views.min(-1)).mean((1, 2))
    assert brightness.std() > 0.05
    assert saturation.max() > 1.5 * saturation.min()


@pytest.mark.parametrize("flip", [True, False])
def test_half_of_the_views_are_mirrored_if_at_all(flip: bool) -> None:
    gradient = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    stream = io.BytesIO()
    Image.fromarray(gradient).save(stream, "JPEG", quality=95)
    config = AugmentationConfig(flip=flip)
    views = [np.asarray(train_view(stream.getvalue(), config, 32, [3, i])) for i in range(200)]
    mirrored = sum(view[:, 0].mean() > view[:, -1].mean() for view in views)
    assert 70 < mirrored < 130 if flip else mirrored == 0


def test_crops_are_distributed_as_the_originals() -> None:
    """4,000 draws of the original on 375 x 500: none below 10 %, median 35 %."""
    height, width = 375, 500
    extents = tf.map_fn(
        lambda seed: sample_crop(
            tf.constant([height, width, 3]), AugmentationConfig(), tf.stack([7, seed])
        )[1],
        tf.range(4000, dtype=tf.int64),
        fn_output_signature=tf.int32,
    ).numpy()
    areas = extents[:, 0] * extents[:, 1] / (height * width)
    ratios = extents[:, 1] / extents[:, 0]
    assert areas.min() >= 0.0995  # 10 %, up to rounding to pixels
    assert np.median(areas) == pytest.approx(0.35, abs=0.03)
    assert ratios.min() == pytest.approx(0.75, abs=0.02)
    assert ratios.max() == pytest.approx(1.33, abs=0.02)
