"""RMSProp as TF1 defines it, with slim's staircase learning rate.

The learning rate and the decay follow from the number of replicas, so that 1, 2, 4 and 8 replicas
all train by the documented recipe (slim_train: 0.045 x GPUs, 2.5 / GPUs clone-epochs).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from training.config import OptimizerConfig
from training.optimization.schedule import Schedule


class TF1RMSprop(keras.optimizers.RMSprop):
    """A Keras optimizer with the kernel of `tf.compat.v1.train.RMSPropOptimizer`.

    tensorflow/python/training/rmsprop.py: the mean square starts at one, epsilon is inside
    the root, the learning rate inside the momentum.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the slots."""
        built = self.built
        super().build(variables)
        if not built:
            for velocity in self._velocities:
                velocity.assign(keras.ops.ones_like(velocity))

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update one variable and its slots."""
        index = self._get_variable_index(variable)
        slots = (variable, self._velocities[index], self._momentums[index])
        resources = [_resource(slot) for slot in slots]
        tf.raw_ops.ResourceApplyRMSProp(
            var=resources[0],
            ms=resources[1],
            mom=resources[2],
            lr=tf.cast(learning_rate, tf.float32),
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=gradient,
        )


def _resource(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    """Return the handle of a Keras or TensorFlow variable on this device."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


class WarmedStaircase(keras.optimizers.schedules.ExponentialDecay):
    """A `Schedule` that is computed on the device."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(
            schedule.start,
            decay_steps=schedule.decay_steps,
            decay_rate=schedule.decay_rate,
            staircase=True,
        )
        self.warmup_steps = schedule.warmup_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of the update that follows `step` updates, `float32 []`."""
        learning_rate = super().__call__(step)
        if not self.warmup_steps:
            return learning_rate
        risen = (tf.cast(step, tf.float32) + 1.0) / self.warmup_steps
        return learning_rate * tf.minimum(1.0, risen)


def rmsprop(
    config: OptimizerConfig, schedule: float | keras.optimizers.schedules.LearningRateSchedule
) -> TF1RMSprop:
    """Return the optimizer of the recipe with the learning rate `schedule`."""
    return TF1RMSprop(
        schedule, rho=config.rho, momentum=config.momentum, epsilon=config.epsilon, name="rmsprop"
    )
