"""A step means the same on every replica, and statistics are shared on purpose, not by accident."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training.config import RunConfig, override
from training.recipes import demo
from training.state import TrainingState, values
from training.step import TrainSteps, statistics_synchronizer

OUTPUTS = 11
BATCH = 4


def small_config(*overrides: str) -> RunConfig:
    config = demo("mobilenet_v2_0.35_32")
    for assignment in (f"training.batch_per_replica={BATCH}", *overrides):
        config = override(config, assignment)
    return config


def batches(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Eight batches whose statistics differ widely: brighter and brighter images."""
    random = np.random.default_rng(seed)
    brightness = np.linspace(-0.6, 0.6, 8).reshape(8, 1, 1, 1, 1)
    images = random.uniform(-0.4, 0.4, (8, BATCH, 32, 32, 3)) + brightness
    return images.astype(np.float32), random.integers(1, OUTPUTS, (8, BATCH))


def learned(means: dict[str, float]) -> dict[str, float]:
    """What a call of the inner loop reports, without what a clock measured."""
    return {name: value for name, value in means.items() if name != "input_wait"}


def trained(
    strategy: tf.distribute.Strategy, config: RunConfig, steps: int
) -> tuple[TrainingState, dict[str, float]]:
    with strategy.scope():
        state = TrainingState(
            config,
            num_outputs=OUTPUTS,
            num_examples=100,
            num_replicas=strategy.num_replicas_in_sync,
        )
    images, labels = batches()

    def stream(_: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((images, labels)).repeat()

    iterator = iter(strategy.distribute_datasets_from_function(stream))
    means = TrainSteps(strategy, state, config).run(iterator, steps)
    return state, means


def per_replica(strategy: tf.distribute.Strategy, variable: Any) -> list[np.ndarray]:
    return [each.numpy() for each in strategy.experimental_local_results(variable)]


def statistics(state: TrainingState) -> list[Any]:
    return [
        each.value
        for each in state.model.variables
        if each.path.split("/")[-1].startswith("moving")
    ]


def test_weights_are_equal_on_all_replicas_and_statistics_are_not(
    two_replicas: tf.distribute.Strategy,
) -> None:
    state, _ = trained(two_replicas, small_config(), steps=2)
    for variable in state.model.trainable_variables:
        first, second = per_replica(two_replicas, variable.value)
        assert np.array_equal(first, second)
    drift = [np.ptp(per_replica(two_replicas, each), axis=0).max() for each in statistics(state)]
    assert max(drift) > 0.01


@pytest.mark.parametrize("policy", ["replica0", "mean"])
def test_synchronised_statistics_are_equal_everywhere_and_those_of_the_policy(
    two_replicas: tf.distribute.Strategy, policy: str
) -> None:
    state, _ = trained(two_replicas, small_config(), steps=2)
    indices = [
        i for i, v in enumerate(values(state.model)) if any(v is s for s in statistics(state))
    ]
    watched = statistics(state) + [state.ema.shadows[i] for i in indices]
    assert len(watched) == 2 * 104
    before = [per_replica(two_replicas, each) for each in watched]
    statistics_synchronizer(two_replicas, state, policy)()
    for variable, (first, second) in zip(watched, before, strict=True):
        expected = first if policy == "replica0" else (first + second) / 2
        for now in per_replica(two_replicas, variable):
            np.testing.assert_allclose(now, expected, rtol=1e-6, atol=1e-7)


def test_looking_does_not_change_the_average_over_replicas(
    two_replicas: tf.distribute.Strategy,
) -> None:
    """Synchronising on the way gives the same final mean: moving averages are linear."""
    config = small_config("model.dropout=0")
    plain, _ = trained(two_replicas, config, steps=3)
    statistics_synchronizer(two_replicas, plain, "mean")()
    with two_replicas.scope():
        looked = TrainingState(config, num_outputs=OUTPUTS, num_examples=100, num_replicas=2)
    images, labels = batches()
    stream = tf.data.Dataset.from_tensor_slices((images, labels)).repeat()
    iterator = iter(two_replicas.distribute_datasets_from_function(lambda _: stream))
    steps = TrainSteps(two_replicas, looked, config)
    synchronize = statistics_synchronizer(two_replicas, looked, "mean")
    for _ in range(3):
        steps.run(iterator, 1)
        synchronize()
    for one, other in zip(statistics(plain), statistics(looked), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)


def test_two_replicas_are_one_with_the_same_batches_twice(
    two_replicas: tf.distribute.Strategy,
) -> None:
    """The gradient is the mean over the global batch and L2 counts once.

    One step: batch normalisation on noise blows up the rounding of a sum in another order.
    """
    config = small_config(
        "model.dropout=0",
        "model.weight_decay=1",  # so that counting it twice would show
        "optimizer.learning_rate_per_replica=0.01",
    )
    alone = override(config, "optimizer.learning_rate_per_replica=0.02")  # per replica, of two
    images, labels = batches()
    doubled = [np.repeat(each, 2, axis=0) for each in (images, labels)]
    finals = []
    for strategy, of_run, (x, y) in (
        (tf.distribute.OneDeviceStrategy("CPU:0"), alone, (images, labels)),
        (two_replicas, config, doubled),
    ):
        with strategy.scope():
            state = TrainingState(
                of_run,
                num_outputs=OUTPUTS,
                num_examples=10**6,
                num_replicas=strategy.num_replicas_in_sync,
            )
        stream = tf.data.Dataset.from_tensor_slices((x, y)).repeat()
        iterator = iter(strategy.distribute_datasets_from_function(lambda _, stream=stream: stream))
        means = TrainSteps(strategy, state, of_run).run(iterator, 1)
        finals.append((state, means))
    (one, one_means), (two, two_means) = finals
    assert learned(one_means) == pytest.approx(learned(two_means), rel=1e-4)
    for left, right in zip(one.model.variables, two.model.variables, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=1e-3, atol=1e-5)


def test_one_call_of_many_steps_is_many_calls_of_one() -> None:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    config = small_config()
    together, _ = trained(strategy, config, steps=4)
    with strategy.scope():
        apart = TrainingState(config, num_outputs=OUTPUTS, num_examples=100, num_replicas=1)
    images, labels = batches()
    stream = tf.data.Dataset.from_tensor_slices((images, labels)).repeat()
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: stream))
    steps = TrainSteps(strategy, apart, config)
    for _ in range(4):
        steps.run(iterator, 1)
    for one, other in itertools.zip_longest(values(together.model), values(apart.model)):
        assert np.array_equal(one.numpy(), other.numpy())
    for one, other in itertools.zip_longest(together.ema.shadows, apart.ema.shadows):
        assert np.array_equal(one.numpy(), other.numpy())


def test_reported_loss_is_the_smoothed_cross_entropy_and_l2_of_the_start() -> None:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    config = small_config("model.dropout=0")
    state, means = trained(strategy, config, steps=1)
    fresh = TrainingState(config, num_outputs=OUTPUTS, num_examples=100, num_replicas=1)
    images, labels = batches()
    logits = fresh.model(images[0], training=True).numpy().astype(np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = np.eye(OUTPUTS)[labels[0]] * 0.9 + 0.1 / OUTPUTS
    assert means["loss"] == pytest.approx(-(targets * log_softmax).sum(-1).mean(), rel=1e-4)
    assert state.step == 1
