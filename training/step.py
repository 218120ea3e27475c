"""The inner loop: many steps on the device per call, nothing per step on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from training.config import RunConfig
from training.state import TrainingState, values

DROPOUT_STREAM = 0x0D20  # keeps dropout's random numbers apart from the data's


class TrainSteps:
    """`run(iterator, num_steps)` makes updates and returns the means since the last call."""

    def __init__(
        self, strategy: tf.distribute.Strategy, state: TrainingState, config: RunConfig
    ) -> None:
        self._strategy = strategy
        self._state = state
        self._config = config
        self._global_batch = config.training.batch_per_replica * strategy.num_replicas_in_sync
        self._loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.training.label_smoothing, reduction=None
        )
        with strategy.scope():
            # Summed over replicas when read: one collective per call, not one per step.
            self._totals = tf.Variable(
                tf.zeros([3]),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="totals",
            )

    def run(self, iterator: Any, num_steps: int) -> dict[str, float]:
        """Make `num_steps` updates.

        Returns:
            `loss` (mean cross-entropy over all images), `regularization` (the L2 term)
            and `top1` (on the augmented images) over these steps.
        """
        regularization = self._run(iterator, tf.constant(num_steps))
        cross_entropy, correct, images = self._totals.numpy()
        return {
            "loss": float(cross_entropy / images),
            "regularization": float(regularization),
            "top1": float(correct / images),
        }

    @tf.function
    def _run(self, iterator: Any, num_steps: Any) -> Any:
        self._strategy.run(lambda: self._totals.assign(tf.zeros([3])))
        for _ in tf.range(num_steps):
            self._strategy.run(self._replica_step, args=next(iterator))
        return tf.add_n(self._state.model.losses)

    def _replica_step(self, images: Any, labels: Any) -> None:
        """One update from this replica's `[B, S, S, 3]` images and `[B]` labels."""
        state = self._state
        num_outputs = state.classifier.filters
        with tf.GradientTape() as tape:
            features = state.features(images, training=True)
            logits = tf.squeeze(state.classifier(self._dropout(features)), [1, 2])
            cross_entropy = tf.reduce_sum(self._loss(tf.one_hot(labels, num_outputs), logits))
            # Gradients are summed over replicas: divide by the global batch, and let the
            # first replica alone carry the L2 term, as slim's model_deploy does.
            loss = cross_entropy / self._global_batch
            loss += tf.add_n(state.model.losses) * self._is_first_replica()
        variables = state.model.trainable_variables
        gradients = tape.gradient(loss, [each.value for each in variables])
        state.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        state.ema.update(values(state.model), state.optimizer.iterations.value)
        correct = tf.math.count_nonzero(tf.argmax(logits, axis=-1) == labels, dtype=tf.float32)
        batch = tf.cast(tf.shape(labels)[0], tf.float32)
        self._totals.assign_add([cross_entropy, correct, batch])

    def _is_first_replica(self) -> Any:
        """1.0 on replica 0, 0.0 on the others."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.cast(tf.equal(replica, 0), tf.float32)

    def _dropout(self, features: Any) -> Any:
        """Dropout whose mask follows from (seed, step, replica)."""
        rate = self._config.model.dropout
        if not rate:
            return features
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        step = tf.cast(self._state.optimizer.iterations.value, tf.int64)
        stream = step * self._strategy.num_replicas_in_sync + tf.cast(replica, tf.int64)
        seed = tf.stack([tf.constant(self._config.seed ^ DROPOUT_STREAM, tf.int64), stream])
        return tf.nn.experimental.stateless_dropout(features, rate, seed=seed)


def statistics_synchronizer(
    strategy: tf.distribute.Strategy, state: TrainingState, policy: str
) -> Callable[[], None]:
    """A function that makes BN statistics, and their averages, the same on every replica.

    Each replica moves its statistics by its own batches. The original keeps those of clone
    0 (`replica0`); `mean` averages them. Moving averages are linear, so doing it here, when
    someone looks, gives exactly what doing it in every step would.
    """
    trainable = {id(each) for each in state.model.trainable_variables}
    indices = [i for i, each in enumerate(state.model.variables) if id(each) not in trainable]
    everything = values(state.model)
    statistics = [everything[i] for i in indices] + [state.ema.shadows[i] for i in indices]

    def in_replica() -> None:
        replica = tf.distribute.get_replica_context()
        packed = tf.concat([tf.reshape(each, [-1]) for each in statistics], axis=0)
        if policy == "mean":
            packed = replica.all_reduce(tf.distribute.ReduceOp.MEAN, packed)
        else:
            is_first = tf.equal(replica.replica_id_in_sync_group, 0)
            packed = tf.where(is_first, packed, tf.zeros_like(packed))
            packed = replica.all_reduce(tf.distribute.ReduceOp.SUM, packed)
        sizes = [each.shape.num_elements() for each in statistics]
        for variable, part in zip(statistics, tf.split(packed, sizes), strict=True):
            variable.assign(tf.reshape(part, variable.shape))

    return tf.function(lambda: strategy.run(in_replica))
