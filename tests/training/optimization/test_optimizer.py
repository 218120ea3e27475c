"""The optimizer is TF1's, and its schedule is the documented one for any number of replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training.config import OptimizerConfig
from training.optimization.optimizer import WarmedStaircase, rmsprop
from training.optimization.schedule import Schedule

IMAGENET = {"num_examples": 1_281_167, "batch_per_replica": 96}


@pytest.mark.parametrize(("replicas", "steps"), [(1, 33363), (2, 16681), (4, 8340), (8, 4170)])
def test_decay_comes_every_two_and_a_half_true_epochs(replicas: int, steps: int) -> None:
    schedule = Schedule.of(OptimizerConfig(), num_replicas=replicas, **IMAGENET)
    assert (schedule.decay_steps, schedule.warmup_steps) == (steps, 0)


def test_learning_rate_at_named_steps_on_eight_replicas() -> None:
    schedule = WarmedStaircase(Schedule.of(OptimizerConfig(), num_replicas=8, **IMAGENET))
    expected = {
        0: 0.36,  # 0.045 x 8
        4169: 0.36,
        4170: 0.36 * 0.98,  # first decay
        8339: 0.36 * 0.98,
        8340: 0.36 * 0.98**2,
        699_999: 0.36 * 0.98**167,  # 167 decays in 700K steps
    }
    for step, learning_rate in expected.items():
        assert float(schedule(step)) == pytest.approx(learning_rate, rel=1e-5), step


def test_a_warm_up_rises_linearly_into_the_staircase() -> None:
    config = OptimizerConfig(warmup_epochs=5.0)
    planned = Schedule.of(config, num_replicas=8, **IMAGENET)
    assert planned.warmup_steps == 8340  # two stairs
    schedule = WarmedStaircase(planned)
    for step, learning_rate in {
        0: 0.36 / 8340,
        4169: 0.36 * 4170 / 8340,
        4170: 0.36 * 0.98 * 4171 / 8340,
        8339: 0.36 * 0.98,
        8340: 0.36 * 0.98**2,
    }.items():
        assert planned.at(step) == pytest.approx(learning_rate), step
        assert float(schedule(step)) == pytest.approx(learning_rate, rel=1e-5), step


def test_updates_are_those_of_tf1() -> None:
    """The expected values are tensorflow/python/training/rmsprop.py, written out in numpy."""
    random = np.random.default_rng(0)
    start = random.normal(size=50).astype(np.float32)
    variable = keras.Variable(start)
    optimizer = rmsprop(OptimizerConfig(), 0.045)
    optimizer.build([variable])
    weights, mean_square, momentum = start.astype(np.float64), np.ones(50), np.zeros(50)
    for _ in range(100):
        gradient = random.normal(size=50).astype(np.float32)
        optimizer.apply_gradients([(gradient, variable)])
        mean_square = 0.9 * mean_square + 0.1 * gradient.astype(np.float64) ** 2
        momentum = 0.9 * momentum + 0.045 * gradient / np.sqrt(mean_square + 1.0)
        weights -= momentum
    np.testing.assert_allclose(variable.numpy(), weights, atol=1e-5)


def test_the_first_step_is_tf1s_and_not_keras() -> None:
    variable = keras.Variable([0.0])
    optimizer = rmsprop(OptimizerConfig(), 0.045)
    optimizer.apply_gradients([(np.array([0.5], np.float32), variable)])
    assert variable.numpy()[0] == pytest.approx(-0.016217, rel=1e-4)  # Keras' own: -0.022224
