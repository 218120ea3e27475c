"""Preprocessing is slim's, and a function of its arguments."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.training.input import simple_inception
from training.config import AugmentationConfig, EvaluationConfig
from training.config.recipes import improved
from training.input.inception import crop, distort, draw, eval_view, sample_crop, train_view
from training.models.variants import Variant

pytestmark = pytest.mark.slow

ColorOrder = Literal["brightness_first", "mixed"]


def jpeg(height: int, width: int, mode: str = "RGB") -> bytes:
    random = np.random.default_rng(height)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def tf1_bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """Resize as TF1 does, align_corners=False: source = target * scale, no half pixels."""
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


def distort_color(image: Any, order: ColorOrder, seeds: Any) -> Any:
    """Return `simple_inception.distort_color` of one image in [0, 1], without a flip."""
    config = AugmentationConfig(color_order=order, flip=False)
    draws = draw(config, [tf.zeros([2], tf.int64), *seeds])
    return distort(image[tf.newaxis] * 255.0, draws[tf.newaxis])[0] / 2 + 0.5


FAST = SimpleNamespace(train_view=train_view, distort_color=distort_color)


@pytest.fixture(params=[simple_inception, FAST], ids=["simple", "fast"])
def way(request: pytest.FixtureRequest) -> Any:
    """Return each of the two ways to a training view, for which the same laws hold."""
    return request.param


@pytest.mark.parametrize(("height", "width"), [(100, 75), (61, 127), (500, 375)])
def test_eval_is_the_central_crop_resized_the_tf1_way(height: int, width: int) -> None:
    encoded = jpeg(height, width)
    pixels = tf.io.decode_jpeg(encoded, channels=3).numpy() / 255
    top, left = height // 16, width // 16
    crop = pixels[top : height - top, left : width - left]
    expected = (tf1_bilinear(crop, 96) - 0.5) * 2
    np.testing.assert_allclose(eval_view(encoded, 96, EvaluationConfig()), expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(300, 200), (200, 300), (40, 60)])
def test_the_usual_eval_keeps_the_aspect_ratio_and_takes_the_centre(
    height: int, width: int
) -> None:
    """The expected image is Pillow's antialiased bilinear resize to 256/224, and its centre."""
    encoded = jpeg(height, width)
    view = eval_view(encoded, 112, EvaluationConfig(crop="resize_256", precise=True)).numpy()
    scale = 128 / min(height, width)
    size = (round(width * scale), round(height * scale))
    resized = Image.open(io.BytesIO(encoded)).resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - 112) // 2, (size[1] - 112) // 2
    expected = np.asarray(resized.crop((left, top, left + 112, top + 112))) / 127.5 - 1
    assert np.abs(view - expected).mean() < 0.01
    assert np.abs(view - expected).max() < 0.1


def test_the_precise_decoder_is_libjpegs_accurate_one() -> None:
    encoded = jpeg(224, 256)
    precise = EvaluationConfig(precise=True)
    pixels = np.asarray(Image.open(io.BytesIO(encoded)), np.float32) / 255
    expected = (tf1_bilinear(pixels[14:-14, 16:-16], 196) - 0.5) * 2
    accurate = np.abs(eval_view(encoded, 196, precise) - expected).mean()
    fast = np.abs(eval_view(encoded, 196, EvaluationConfig()) - expected).mean()
    assert accurate < 1e-3
    assert accurate < fast


def test_grayscale_becomes_three_equal_channels() -> None:
    image = eval_view(jpeg(80, 80, "L"), 32, EvaluationConfig()).numpy()
    assert image.shape == (32, 32, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


def test_the_same_seed_gives_the_same_view_and_another_seed_another(way: Any) -> None:
    encoded = jpeg(100, 75)

    def view(seed: int) -> np.ndarray:
        return np.asarray(way.train_view(encoded, AugmentationConfig(), 32, [0, seed]))

    assert np.array_equal(view(1), view(1))
    assert not np.array_equal(view(1), view(2))


def test_training_views_stay_in_range_and_vary_in_every_way(way: Any) -> None:
    encoded = jpeg(100, 75)
    views = tf.map_fn(
        lambda seed: way.train_view(encoded, AugmentationConfig(), 32, tf.stack([0, seed])),
        tf.range(200, dtype=tf.int64),
        fn_output_signature=tf.float32,
    ).numpy()
    assert views.min() >= -1
    assert views.max() <= 1
    brightness = views.mean((1, 2, 3))
    saturation = (views.max(-1) - views.min(-1)).mean((1, 2))
    assert brightness.std() > 0.05
    assert saturation.max() > 1.5 * saturation.min()


def test_without_flips_nothing_is_mirrored(way: Any) -> None:
    gradient = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    stream = io.BytesIO()
    Image.fromarray(gradient).save(stream, "JPEG", quality=95)
    config = AugmentationConfig(flip=False)
    views = [np.asarray(way.train_view(stream.getvalue(), config, 32, [3, i])) for i in range(100)]
    assert not any(view[:, 0].mean() > view[:, -1].mean() for view in views)


DRAWS = 10_000
# Of a fraction p estimated from n draws; wider than 5 sigma fails once in two million runs.
# All draws come from fixed seeds, so a pass stays a pass.
FIVE_SIGMA = 5 * np.sqrt(0.25 / DRAWS)


def seeds_of(stream: int) -> tf.data.Dataset:
    return tf.data.Dataset.range(DRAWS).map(lambda i: tf.stack([tf.constant(stream, tf.int64), i]))


def drawn(dataset: tf.data.Dataset) -> np.ndarray:
    return np.concatenate(list(dataset.batch(1000).as_numpy_iterator()))


def test_crops_are_distributed_as_the_originals() -> None:
    """On 375 x 500 the original has no crop below 10 % of the area, and a median of 35 %."""
    height, width = 375, 500
    shape = tf.constant([height, width, 3])
    config = AugmentationConfig()
    extents = drawn(seeds_of(7).map(lambda seed: sample_crop(shape, config, seed)[1]))
    areas = extents[:, 0] * extents[:, 1] / (height * width)
    ratios = extents[:, 1] / extents[:, 0]
    assert areas.min() >= 0.0995  # 10 %, up to rounding to pixels
    assert areas.max() > 0.95
    assert np.mean(areas < 0.35) == pytest.approx(0.5, abs=FIVE_SIGMA + 0.02)
    assert ratios.min() == pytest.approx(0.75, abs=0.02)
    assert ratios.max() == pytest.approx(1.33, abs=0.02)


def test_brightness_is_uniform_in_its_range(way: Any) -> None:
    """A gray image has no saturation to change, so its level tells the delta."""
    gray = tf.fill([1, 1, 3], 0.5)

    def delta(seed: Any) -> Any:
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        return way.distort_color(gray, "brightness_first", seeds)[0, 0, 0] - 0.5

    deltas = drawn(seeds_of(8).map(delta)) * 255
    assert np.abs(deltas).max() <= 32 + 1e-3
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        found = np.mean(deltas < 64 * quantile - 32)
        assert found == pytest.approx(quantile, abs=FIVE_SIGMA)


def test_saturation_is_uniform_in_its_range(way: Any) -> None:
    """Saturation moves the lowest channel; the highest, the value, tells the brightness."""
    color = tf.constant([[[0.5, 0.4, 0.4]]])  # saturation 0.2: never clipped by a factor of 1.5

    def factor(seed: Any) -> Any:
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        pixel = way.distort_color(color, "brightness_first", seeds)[0, 0]
        return tf.stack([pixel[0], pixel[1]])

    value, lowest = drawn(seeds_of(9).map(factor)).T
    # Brightness comes first and keeps the distance of 0.1 between the channels.
    factors = (1 - lowest / value) / (0.1 / value)
    assert factors.min() == pytest.approx(0.5, abs=0.01)
    assert factors.max() == pytest.approx(1.5, abs=0.01)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.mean(factors < 0.5 + quantile) == pytest.approx(quantile, abs=FIVE_SIGMA)


def test_the_older_order_puts_saturation_first_in_three_of_four_images(way: Any) -> None:
    """The orders differ where a vivid colour is brightened and saturated past the limit."""
    colors = [tf.constant([[color]]) for color in ([0.5] * 3, [0.5, 0.4, 0.4], [0.3, 0.02, 0.02])]

    def look(seed: Any) -> Any:
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        gray, pale, vivid = (way.distort_color(c, "brightness_first", seeds)[0, 0] for c in colors)
        mixed = way.distort_color(colors[2], "mixed", seeds)[0, 0]
        factor = (pale[0] - pale[1]) / 0.1
        return tf.stack([gray[0] - 0.5, factor, tf.reduce_max(tf.abs(mixed - vivid))])

    delta, factor, difference = drawn(seeds_of(10).map(look)).T
    tells = (delta > 0.05) & (factor > 1.3)
    share = np.mean(difference[tells] < 1e-6)
    assert share == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / tells.sum()))
    assert tells.sum() > 400


def test_flips_are_even(way: Any) -> None:
    gradient = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    stream = io.BytesIO()
    Image.fromarray(gradient).save(stream, "JPEG", quality=95)
    encoded = stream.getvalue()
    config = AugmentationConfig()

    def is_mirrored(seed: Any) -> Any:
        view = way.train_view(encoded, config, 8, seed)
        return tf.reduce_mean(view[:, 0]) > tf.reduce_mean(view[:, -1])

    mirrored = drawn(seeds_of(11).map(is_mirrored, num_parallel_calls=2))
    assert mirrored.mean() == pytest.approx(0.5, abs=FIVE_SIGMA)


def photograph(height: int, width: int, subsampling: str) -> bytes:
    """Return a JPEG of smooth colours, in which a chroma sample is close to its neighbour."""
    random = np.random.default_rng(height)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    stream = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90, subsampling=subsampling
    )
    return stream.getvalue()


@pytest.mark.parametrize("order", ["brightness_first", "mixed"])
@pytest.mark.parametrize("mode", ["4:4:4", "4:2:0", "gray", "progressive"])
def test_seed_by_seed_the_fast_view_is_the_simple_one(mode: str, order: ColorOrder) -> None:
    """This holds at the edge of a crop too, where subsampled colour blends with the outside."""
    config = AugmentationConfig(color_order=order)
    if mode == "progressive":
        stream = io.BytesIO()
        Image.open(io.BytesIO(photograph(90, 120, "4:4:4"))).save(
            stream, "JPEG", progressive=True, subsampling="4:4:4"
        )
        encoded = stream.getvalue()
    else:
        encoded = jpeg(90, 120, "L") if mode == "gray" else photograph(90, 120, mode)

    def views(seed: Any) -> tuple[Any, Any]:
        return (
            train_view(encoded, config, 48, seed),
            simple_inception.train_view(encoded, config, 48, seed),
        )

    pairs = tf.data.Dataset.range(60).map(lambda i: views(tf.stack([tf.constant(3, tf.int64), i])))
    fast, simple = (np.stack(views) for views in zip(*pairs.as_numpy_iterator(), strict=True))
    # TensorFlow's HSV loses the colour of a pixel whose hue lies a rounding below 360 degrees.
    assert np.mean(np.abs(fast - simple) > 1e-5) < 1e-5


def test_uint8_rounds_the_crop_to_the_nearest_level_and_nothing_else() -> None:
    encoded = photograph(90, 120, "4:4:4")
    for seed in range(20):
        exact, draws = crop(encoded, AugmentationConfig(), 48, [1, seed])
        rounded, same_draws = crop(encoded, AugmentationConfig(pixels="uint8"), 48, [1, seed])
        assert rounded.dtype == tf.uint8
        assert np.abs(tf.cast(rounded, tf.float32) - exact).max() <= 0.5
        assert np.array_equal(draws, same_draws)


def test_no_two_colours_saturate_differently_from_tensorflows_own_op() -> None:
    """This holds outside [0, 1] too, where brightness puts pixels before the clip."""
    random = np.random.default_rng(5)
    images = random.uniform(-0.13, 1.13, (16, 8, 8, 3)).astype(np.float32)
    factors = np.linspace(0.5, 1.5, 16)
    draws = np.stack([[0, 0, factor, 0] for factor in factors]).astype(np.float32)
    ours = distort(images * 255, draws).numpy() / 2 + 0.5
    for image, factor, found in zip(images, factors, ours, strict=True):
        expected = np.clip(tf.image.adjust_saturation(image, factor), 0, 1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_improved_recipe_moves_and_erases_but_leaves_colours_to_randaugment() -> None:
    config = improved(Variant.parse("mobilenet_v2_1.0_224")).augmentation
    encoded = jpeg(80, 80)
    views = tf.function(lambda seed: crop(encoded, config, 64, seed))
    plain = AugmentationConfig(min_area=0.08, max_aspect_ratio=4 / 3, color=False)
    unchanged = tf.function(lambda seed: crop(encoded, plain, 64, seed))
    same = 0
    for number in range(100):
        seed = tf.constant([1, number], tf.int64)
        pixels, draws = views(seed)
        before, expected_draws = unchanged(seed)
        assert np.array_equal(draws, expected_draws)
        assert draws[1:3].numpy().tolist() == [0.0, 1.0]  # no brightness, saturation as it is
        assert 0 <= pixels.numpy().min() <= pixels.numpy().max() <= 255
        same += np.array_equal(pixels, before)
    assert 8 <= same <= 40  # 0.25 x 0.8: both operations skipped, nothing erased
