"""Exponential moving average of every model variable, BN statistics included, with TF1's ramp.

tf.train.ExponentialMovingAverage(decay, num_updates) over slim.get_model_variables().
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def decay_at(num_updates: tf.Tensor, decay: float) -> tf.Tensor:
    """Return `min(decay, (1 + n) / (10 + n))`: the full decay of 0.9999 only from n = 89,990."""
    n = tf.cast(num_updates, tf.float32)
    return tf.minimum(decay, (1.0 + n) / (10.0 + n))


class ExponentialMovingAverage(tf.Module):
    """Shadow variables, created inside a strategy's scope like the variables that they follow.

    They start at the variables' initial values and live on each replica without aggregation; they
    are equal wherever the variables are equal.
    """

    def __init__(self, variables: Sequence[tf.Tensor], decay: float) -> None:
        super().__init__(name="ema")
        self.decay = decay
        self.shadows = [
            tf.Variable(
                tf.convert_to_tensor(variable),
                trainable=False,
                aggregation=tf.VariableAggregation.NONE,
                name="shadow",
            )
            for variable in variables
        ]

    def update(self, variables: Sequence[tf.Tensor], num_updates: tf.Tensor) -> None:
        """Move every shadow towards its variable, in replica context after the step.

        Args:
            variables: The variables in the order given at construction.
            num_updates: Gradient updates made so far, this one included.
        """
        rest = 1.0 - decay_at(num_updates, self.decay)
        for shadow, variable in zip(self.shadows, variables, strict=True):
            shadow.assign_sub((shadow - tf.convert_to_tensor(variable)) * rest)

    def restart(self, variables: Sequence[tf.Tensor]) -> None:
        """Set the averages to `variables`, in the order given at construction."""
        for shadow, variable in zip(self.shadows, variables, strict=True):
            shadow.assign(tf.convert_to_tensor(variable))

    def copy_to(self, variables: Sequence[tf.Tensor]) -> None:
        """Overwrite `variables`, in the order given at construction, with the averages."""
        for shadow, variable in zip(self.shadows, variables, strict=True):
            variable.assign(tf.convert_to_tensor(shadow))
