"""Training rounds as int8 will round."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.config import ModelConfig
from training.config.recipes import RECIPES, recipe
from training.models.architecture import architecture
from training.models.mobilenet import layer_name, mobilenet
from training.models.quantization import (
    QuantizedActivation,
    QuantizedDepthwiseConv2D,
    round_per_channel,
)
from training.models.variants import Variant
from training.weights.slim_checkpoint import slim_variables

RANDOM = np.random.default_rng(0)
LAYOUT = architecture(Variant.parse("mobilenet_v2_0.35_32"), 11)


def network(quantized: bool) -> keras.Model:
    return mobilenet(LAYOUT, ModelConfig(quantized=quantized), resolution=32)


def test_a_kernel_becomes_255_symmetric_steps_per_output_channel() -> None:
    kernel = RANDOM.normal(size=(3, 3, 5, 7)).astype(np.float32) * np.logspace(-3, 0, 7)
    rounded = round_per_channel(tf.constant(kernel, tf.float32)).numpy()
    scale = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    np.testing.assert_allclose(rounded, np.round(kernel / scale) * scale, atol=1e-6)


def test_rounding_does_not_notice_a_factor_per_channel() -> None:
    """For this reason batch normalisation need not be folded into the kernel first."""
    kernel = RANDOM.normal(size=(1, 1, 5, 7)).astype(np.float32)
    factors = (2.0 ** RANDOM.integers(-4, 4, 7) * RANDOM.choice([-1, 1], 7)).astype(np.float32)
    folded = round_per_channel(kernel * factors)
    np.testing.assert_allclose(folded, round_per_channel(kernel) * factors, rtol=1e-5)


def test_gradients_pass_straight_through() -> None:
    kernel = tf.Variable(RANDOM.normal(size=(1, 1, 4, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(round_per_channel(kernel) * 3.0)
    np.testing.assert_allclose(tape.gradient(loss, kernel), np.full((1, 1, 4, 3), 3.0))


def test_an_activation_learns_its_range_in_training_only_and_keeps_zero() -> None:
    layer = QuantizedActivation()
    seen = tf.constant([[-1.0, 0.0, 0.1234, 3.0]])
    np.testing.assert_array_equal(layer(seen, training=False), seen)
    layer(seen, training=True)
    assert [float(v) for v in layer.weights] == [-1.0, 3.0]
    wide = tf.constant([[-9.0, 0.0, 0.1234, 9.0]])
    outputs = layer(wide, training=False).numpy()
    assert [float(v) for v in layer.weights] == [-1.0, 3.0]
    assert outputs[0, 1] == 0.0
    assert outputs.min() >= -1.01
    assert outputs.max() <= 3.01
    assert abs(outputs[0, 2] - 0.1234) <= 4 / 255 / 2 + 1e-6


def test_a_depthwise_layer_is_keras_own_on_a_rounded_kernel() -> None:
    images = tf.constant(RANDOM.normal(size=(2, 9, 9, 4)).astype(np.float32))
    options = {"kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False}
    ours, plain = QuantizedDepthwiseConv2D(**options), keras.layers.DepthwiseConv2D(**options)
    ours(images), plain(images)
    plain.kernel.assign(round_per_channel(ours.kernel[..., 0])[..., tf.newaxis])
    np.testing.assert_allclose(ours(images), plain(images), atol=1e-6)


def test_the_network_has_the_same_slim_variables_and_trains_every_one() -> None:
    plain, rounded = network(quantized=False), network(quantized=True)
    assert list(slim_variables(plain, LAYOUT)) == list(slim_variables(rounded, LAYOUT))
    images = RANDOM.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(rounded(images, training=True) ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in rounded.trainable_variables])
    assert len(gradients) == len(plain.trainable_variables)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_rounding_in_training_moves_predictions_as_far_as_the_int8_file_does() -> None:
    """The two round differently: the file's ranges, and so its steps, are calibrated again."""
    from pipeline.export.conversion import tflite
    from pipeline.export.conversion.litert import LiteRTModel

    rounded, plain = network(quantized=True), network(quantized=False)
    # Smooth images and units in their linear range: the rounding errors stay where they are
    # made, instead of growing with depth as random filters let them.
    colors, noise = (
        RANDOM.uniform(-0.9, 0.9, (64, 1, 1, 3)),
        RANDOM.normal(0, 0.05, (64, 32, 32, 3)),
    )
    images = np.clip(colors + noise, -1, 1).astype(np.float32)
    for convolution in LAYOUT.convolutions():
        if not convolution.linear:
            rounded.get_layer(f"{layer_name(convolution.scope)}_BatchNorm").beta.assign(
                np.full(convolution.out_channels, 1.5)
            )
    norms = [layer for layer in rounded.layers if layer.name.endswith("_BatchNorm")]
    for norm in norms:
        norm.momentum = 0.0
    rounded(images, training=True)
    for name, variable in slim_variables(rounded, LAYOUT).items():
        slim_variables(plain, LAYOUT)[name].assign(variable)
    # Ranges as the file's calibration finds them: of the network as it is evaluated.
    for layer in rounded.layers:
        if isinstance(layer, QuantizedActivation):
            for weight in layer.weights:
                weight.assign(0.0)
    for norm in norms:
        norm.trainable = False
    rounded(images, training=True)
    int8 = LiteRTModel(tflite.convert(plain, images)["tflite_int8_signed"])
    found = np.stack([int8.probabilities(image) for image in images])
    exact, simulated = (
        tf.nn.softmax(model(images, training=False)).numpy() for model in (plain, rounded)
    )
    by_file, by_training = (np.abs(outputs - exact).mean() for outputs in (found, simulated))
    assert by_file / 2 < by_training < by_file * 2
    assert by_file < np.std(exact, axis=0).mean()


@pytest.mark.parametrize("name", ["quantized", "demo_quantized"])
def test_the_recipes_change_the_network_and_the_length_of_what_they_start_from(name: str) -> None:
    config = recipe(name, Variant.parse("mobilenet_v2_1.0_224"))
    start = recipe({"quantized": "published", "demo_quantized": "demo"}[name], config.variant)
    assert config.recipe == name
    assert name in RECIPES
    assert config.model == dataclasses.replace(start.model, quantized=True)
    assert config.augmentation == start.augmentation
    assert config.training.total_images < start.training.total_images
