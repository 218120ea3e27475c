"""What all workers have to know alike at a step boundary."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class Agreement:
    """Averages a few numbers over all workers; every worker calls it at the same moment."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        def in_replica(mine: tf.Tensor) -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            # A copy on this replica's device, which the collective asks for.
            return replica.all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(mine))

        self._strategy = strategy
        self._mean = tf.function(lambda mine: strategy.run(in_replica, args=(mine,)))

    def means(self, mine: Sequence[float]) -> list[float]:
        """Means over workers, the same bits on each. Replicas per worker must be equal."""
        agreed = self._mean(tf.constant(list(mine), tf.float64))
        local = self._strategy.experimental_local_results(agreed)
        return [float(each) for each in local[0].numpy()]
