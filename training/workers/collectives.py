"""Collectives: the values on which all workers agree at a step boundary."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf
from tensorflow.python.eager import context

from training.workers.cluster import Cluster

LEAVING_MILLISECONDS = 5000


class Averages(Protocol):
    """Whatever averages a few numbers over all workers."""

    def means(self, mine: Sequence[float]) -> list[float]:
        """Return the means over workers, the same bits on each."""


class Collectives:
    """Averages a few numbers over all workers; every worker calls it at the same moment."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        def in_replica(mine: tf.Tensor) -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            # A copy on this replica's device, which the collective asks for.
            return replica.all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(mine))

        self._strategy = strategy
        self._mean = tf.function(lambda mine: strategy.run(in_replica, args=(mine,)))

    def means(self, mine: Sequence[float]) -> list[float]:
        """Return the means over workers, the same bits on each.

        The number of replicas per worker must be equal.
        """
        agreed = self._mean(tf.constant(list(mine), tf.float64))
        local = self._strategy.experimental_local_results(agreed)
        return [float(mean) for mean in local[0].numpy()]


def leave_after_the_others(cluster: Cluster) -> None:
    """Leave without cutting anyone off in the last collective: the chief leaves last.

    It holds TensorFlow's coordination service, in which every other worker leaves a note. A
    failure here comes after the work is done, so nothing is raised.
    """
    if len(cluster.workers) == 1:
        return
    with contextlib.suppress(tf.errors.OpError):
        if not cluster.is_chief:
            context.context().set_config_key_value(f"left/{cluster.index}", "done")
            return
        for index in range(1, len(cluster.workers)):
            context.context().get_config_key_value(
                f"left/{index}", timeout_in_ms=LEAVING_MILLISECONDS
            )
