"""A step means the same on every replica, and statistics are shared only where intended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.shallow_family import NORMALISED
from tests.training.small_steps import OUTPUTS, Training, batches, learned, small_config
from training.loop.statistics import Statistics
from training.optimization.state import TrainingState, build_model, values
from training.workdir.checkpoint import named_variables
from training.workers.collectives import take_from_first

pytestmark = pytest.mark.slow

# The L2 term is large, so that counting it twice would show.
WITHOUT_DROPOUT = ("model.dropout=0", "model.weight_decay=1")


@pytest.fixture(scope="module")
def pair(two_replicas: tf.distribute.Strategy) -> Training:
    return Training(
        two_replicas,
        small_config(*WITHOUT_DROPOUT, "optimizer.learning_rate_per_replica=0.01"),
    )


@pytest.fixture(scope="module")
def alone() -> Training:
    """Train alone, at the learning rate that the two replicas have together."""
    return Training(
        tf.distribute.OneDeviceStrategy("CPU:0"),
        small_config(*WITHOUT_DROPOUT, "optimizer.learning_rate_per_replica=0.02"),
    )


def per_replica(strategy: tf.distribute.Strategy, variable: Any) -> list[np.ndarray]:
    return [
        replica_value.numpy() for replica_value in strategy.experimental_local_results(variable)
    ]


def statistics(state: TrainingState) -> list[Any]:
    return [
        variable.value
        for variable in state.model.variables
        if variable.path.split("/")[-1].startswith("moving")
    ]


def test_weights_are_equal_on_all_replicas_and_statistics_are_not(
    two_replicas: tf.distribute.Strategy, pair: Training
) -> None:
    pair.start_over()
    pair.run(2)
    for variable in pair.state.model.trainable_variables:
        first, second = per_replica(two_replicas, variable.value)
        assert np.array_equal(first, second)
    drift = [
        np.ptp(per_replica(two_replicas, statistic), axis=0).max()
        for statistic in statistics(pair.state)
    ]
    assert max(drift) > 0.01


@pytest.mark.parametrize("policy", ["replica0", "mean"])
def test_synchronised_statistics_are_equal_everywhere_and_those_of_the_policy(
    two_replicas: tf.distribute.Strategy, pair: Training, policy: str
) -> None:
    pair.start_over()
    pair.run(2)
    state = pair.state
    indices = [
        i for i, v in enumerate(values(state.model)) if any(v is s for s in statistics(state))
    ]
    watched = statistics(state) + [state.ema.shadows[i] for i in indices]
    assert len(watched) == 2 * 2 * NORMALISED  # means and variances, and their averages
    before = [per_replica(two_replicas, variable) for variable in watched]
    assert any(not np.array_equal(first, second) for first, second in before)
    Statistics(two_replicas, state, policy).synchronize()
    for variable, (first, second) in zip(watched, before, strict=True):
        expected = first if policy == "replica0" else (first + second) / 2
        for now in per_replica(two_replicas, variable):
            np.testing.assert_allclose(now, expected, rtol=1e-6, atol=1e-7)


def test_what_the_first_replica_has_all_replicas_get(
    two_replicas: tf.distribute.Strategy, pair: Training
) -> None:
    pair.start_over()
    pair.run(1)
    variables = list(named_variables(pair.state).values())
    before = [per_replica(two_replicas, variable)[0] for variable in variables]
    assert {value.dtype for value in before} == {np.dtype("float32"), np.dtype("int64")}
    take_from_first(two_replicas, variables)
    for variable, first in zip(variables, before, strict=True):
        for now in per_replica(two_replicas, variable):
            assert np.array_equal(now, first)


def test_looking_does_not_change_the_average_over_replicas(
    two_replicas: tf.distribute.Strategy, pair: Training
) -> None:
    """Synchronising on the way gives the same final mean, because moving averages are linear."""
    synchronize = Statistics(two_replicas, pair.state, "mean").synchronize
    pair.start_over()
    pair.run(3)
    synchronize()
    plain = [statistic.numpy() for statistic in statistics(pair.state)]
    pair.start_over()
    for _ in range(3):
        pair.run(1)
        synchronize()
    for one, other in zip(plain, statistics(pair.state), strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-5)


def test_two_replicas_are_one_with_the_same_batches_twice(pair: Training, alone: Training) -> None:
    """The gradient is the mean over the global batch, and L2 counts once.

    Only one step is made: batch normalisation of noise magnifies the rounding of a sum in another
    order.
    """
    alone.start_over()
    pair.start_over(repeats=2)
    assert learned(alone.run(1)) == pytest.approx(learned(pair.run(1)), rel=1e-4)
    one, two = alone.state.model.variables, pair.state.model.variables
    for left, right in zip(one, two, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=1e-3, atol=1e-5)


def test_one_call_of_many_steps_is_many_calls_of_one() -> None:
    """Every bit is the same, dropout included."""
    training = Training(tf.distribute.OneDeviceStrategy("CPU:0"), small_config())
    training.run(4)
    together = training.everything()
    training.start_over()
    assert not all(map(np.array_equal, together, training.everything()))
    for _ in range(4):
        training.run(1)
    assert all(map(np.array_equal, together, training.everything()))


def test_reported_loss_is_the_smoothed_cross_entropy_and_l2_of_the_start(alone: Training) -> None:
    alone.start_over()
    images, labels = batches()
    fresh = build_model(small_config(*WITHOUT_DROPOUT), alone.state.layout)
    logits = fresh(images[0], training=True).numpy().astype(np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = np.eye(OUTPUTS)[labels[0]] * 0.9 + 0.1 / OUTPUTS
    means = alone.run(1)
    assert means.loss == pytest.approx(-(targets * log_softmax).sum(-1).mean(), rel=1e-4)
    assert alone.state.step == 1
