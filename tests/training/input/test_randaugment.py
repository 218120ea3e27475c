"""RandAugment's operations are Pillow's, in the published ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from training.input.randaugment import MEAN_COLOR, OPERATIONS, rand_augment, random_erasing

SIZE = 48


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Return smooth colours with noise on them, some of it clipped."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, SIZE)
    pixels = np.stack(
        [
            ramp[:, None] + 0 * ramp,
            ramp[None] + 0 * ramp[:, None],
            ramp[::-1] * ramp[:, None] / 255,
        ],
        -1,
    )
    return Image.fromarray(
        np.clip(pixels + random.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
    )


def enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance], level: float
) -> Callable[[Image.Image], Image.Image]:
    return lambda image: kind(image).enhance(abs(level) * 1.8 + 0.1)


@pytest.mark.parametrize("level", [0.9, 0.25, -0.9])
@pytest.mark.parametrize(
    ("name", "pillow"),
    [
        ("AutoContrast", lambda level: ImageOps.autocontrast),
        ("Equalize", lambda level: ImageOps.equalize),
        ("Invert", lambda level: ImageOps.invert),
        ("Posterize", lambda level: lambda image: ImageOps.posterize(image, int(abs(level) * 4))),
        ("Solarize", lambda level: lambda image: ImageOps.solarize(image, int(abs(level) * 256))),
        ("Color", lambda level: enhance(ImageEnhance.Color, level)),
        ("Contrast", lambda level: enhance(ImageEnhance.Contrast, level)),
        ("Brightness", lambda level: enhance(ImageEnhance.Brightness, level)),
        ("Sharpness", lambda level: enhance(ImageEnhance.Sharpness, level)),
    ],
)
def test_colours_change_as_pillow_changes_them(
    name: str,
    pillow: Callable[[float], Callable[[Image.Image], Image.Image]],
    level: float,
    photo: Image.Image,
) -> None:
    expected = np.asarray(pillow(level)(photo), np.float32)
    found = np.clip(OPERATIONS[name](tf.constant(np.asarray(photo, np.float32)), level), 0, 255)
    assert np.abs(found - expected).max() <= 1.8  # Pillow rounds twice on the way


@pytest.mark.parametrize("level", [0.9, -0.4])
@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("ShearX", lambda v: (1, 0.3 * v, 0, 0, 1, 0)),
        ("ShearY", lambda v: (1, 0, 0, 0.3 * v, 1, 0)),
        ("TranslateX", lambda v: (1, 0, 0.45 * v * SIZE, 0, 1, 0)),
        ("TranslateY", lambda v: (1, 0, 0, 0, 1, 0.45 * v * SIZE)),
    ],
)
def test_warps_move_pixels_as_pillow_moves_them(
    name: str, matrix: Callable[[float], tuple[float, ...]], level: float
) -> None:
    """The image is smooth, so half a pixel of difference in convention does not show."""
    ramp = np.linspace(40, 200, SIZE)
    smooth = np.stack(
        [ramp[:, None] + 0 * ramp, ramp[None] + 0 * ramp[:, None], np.full((SIZE, SIZE), 99.0)], -1
    )
    image = Image.fromarray(smooth.astype(np.uint8))
    expected = image.transform(
        (SIZE, SIZE),
        Image.Transform.AFFINE,
        matrix(level),
        Image.Resampling.BILINEAR,
        fillcolor=tuple(map(int, MEAN_COLOR)),
    )
    found = OPERATIONS[name](tf.constant(np.asarray(image, np.float32)), level).numpy()
    difference = np.abs(found - np.asarray(expected, np.float32)).max(axis=-1)
    assert np.mean(difference <= 4) > 0.93  # all but the edge of what was uncovered


def test_a_quarter_of_the_rotation_range_turns_about_the_centre() -> None:
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[SIZE // 2 - 2 : SIZE // 2 + 2] = 255  # a horizontal bar
    turned = OPERATIONS["Rotate"](tf.constant(image), 1.0).numpy()[..., 0]
    center = (SIZE - 1) / 2
    rows, columns = np.nonzero(turned > 200)
    slope = np.polyfit(columns - center, rows - center, 1)
    assert abs(slope[0]) == pytest.approx(np.tan(np.pi / 6), abs=0.03)
    assert slope[1] == pytest.approx(0, abs=0.5)


def test_the_same_seed_gives_the_same_image_and_others_differ(photo: Image.Image) -> None:
    image = tf.constant(np.asarray(photo, np.float32))
    augmented = tf.function(lambda seed: rand_augment(image, 2, 9.0, seed))
    seeds = [tf.constant([3, number], tf.int64) for number in range(60)]
    results = [augmented(seed).numpy() for seed in seeds]
    assert all(
        np.array_equal(augmented(seed), known) for seed, known in zip(seeds, results, strict=True)
    )
    assert all(result.min() >= 0 and result.max() <= 255 for result in results)
    unchanged = sum(np.array_equal(result, image) for result in results)
    assert 4 <= unchanged <= 30  # a quarter: both operations skipped
    assert (
        len({result.tobytes() for result in results}) >= 30
    )  # an equalised or inverted image can come twice


def test_erasing_happens_as_often_and_takes_as_much_as_published() -> None:
    image = tf.zeros([SIZE, SIZE, 3])
    erased = tf.function(lambda seed: random_erasing(image, 0.2, seed))
    fractions = np.array(
        [
            np.mean(np.any(erased(tf.constant([5, number], tf.int64)) != 0, axis=-1))
            for number in range(2000)
        ]
    )
    happened = fractions > 0
    assert happened.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 2000))
    assert fractions[happened].min() >= 0.015
    assert fractions[happened].max() <= 0.345
    assert fractions[happened].mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.025)
