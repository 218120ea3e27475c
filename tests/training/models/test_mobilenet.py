"""The Keras network has slim's variables, initial values, decay and batch normalisation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.mobilenet import FusedBatchNormalization, mobilenet
from training.models.variants import Variant


def build(width: str = "0.35", resolution: int = 32, outputs: int = 1001) -> keras.Model:
    layout = architecture(Variant("mobilenet_v2", width, resolution), outputs)
    return mobilenet(layout, ModelConfig(), resolution=resolution, seed=0)


# With 1001 outputs: trainable, and all with BN statistics.
TOTALS = {
    "1.4": (6_110_569, 6_158_505),
    "1.3": (5_388_457, 5_432_713),
    "1.0": (3_506_153, 3_540_265),
    "0.75": (2_637_705, 2_664_345),
    "0.5": (1_969_961, 1_988_505),
    "0.35": (1_678_409, 1_692_489),
}


@pytest.mark.parametrize("width", TOTALS)
def test_variables_are_as_many_as_slims(width: str) -> None:
    model = build(width)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert (trainable, model.count_params()) == TOTALS[width]
    assert len(model.trainable_variables) == 158
    assert len(model.variables) == 262


def test_weight_decay_covers_the_36_ordinary_kernels_the_slim_way() -> None:
    model = build()
    kernels = [layer.kernel for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert len(kernels) == len(model.losses) == 36
    expected = sum(4e-5 * tf.nn.l2_loss(kernel.value).numpy() for kernel in kernels)
    assert float(tf.add_n(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_kernels_start_as_truncated_normal_with_slims_deviation() -> None:
    kernel = build("1.0").get_layer("Conv_1").kernel.numpy()
    assert abs(kernel).max() <= 2 * 0.09
    assert kernel.std() == pytest.approx(0.0792, rel=0.01)  # 0.09 cut at two sigma


def test_no_two_kernels_start_alike_and_the_seed_decides() -> None:
    model, again = build(), build()
    first, second = (model.get_layer(f"expanded_conv_{i}_expand").kernel.numpy() for i in (8, 9))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    for one, other in zip(model.variables, again.variables, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_every_trainable_variable_gets_a_gradient() -> None:
    model = build(resolution=64, outputs=5)
    images = np.random.default_rng(0).uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(np.arange(8) % 5, logits, True)
        )
    variables = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert tf.reduce_max(tf.abs(gradient)) > 0, variable.name


def test_batch_norm_normalises_with_the_biased_and_remembers_the_unbiased_variance() -> None:
    layer = FusedBatchNormalization(momentum=0.9, epsilon=0.001)
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 2, 2, 3)).astype(np.float32)
    y = layer(x, training=True).numpy()
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 0.001), atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-5)
    unbiased = variance * 16 / 15
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_evaluation_uses_and_keeps_the_moving_statistics() -> None:
    layer = FusedBatchNormalization(momentum=0.9, epsilon=0.001)
    layer.build((None, 2, 2, 3))
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    x = np.ones((1, 2, 2, 3), np.float32)
    y = layer(x, training=False).numpy()
    np.testing.assert_allclose(y[0, 0, 0], (1 - np.array([1.0, 2.0, 3.0])) / np.sqrt(1.001), 1e-5)
    assert layer.moving_mean.numpy().tolist() == [1.0, 2.0, 3.0]
