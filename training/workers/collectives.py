"""Collectives: the values on which all workers agree at a step boundary."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Protocol

import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    CollectiveAllReduceExtended,
)
from tensorflow.python.distribute.mirrored_strategy import MirroredExtended
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
        self._mean = tf.function(
            lambda mine: strategy.run(in_replica, args=(mine,)), autograph=False
        )

    def means(self, mine: Sequence[float]) -> list[float]:
        """Return the means over workers, the same bits on each.

        The number of replicas per worker must be equal.
        """
        agreed = self._mean(tf.constant(list(mine), tf.float64))
        local = self._strategy.experimental_local_results(agreed)
        return [float(mean) for mean in local[0].numpy()]


@contextlib.contextmanager
def without_broadcasts(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Let variables of the block start with this worker's own values; then `take_from_first`.

    `MultiWorkerMirroredStrategy` broadcasts each variable from the first worker when it is made,
    and every broadcast takes some round trips: minutes on a slow network.
    """
    extended = strategy.extended
    if not isinstance(extended, CollectiveAllReduceExtended):
        yield
        return
    extended._get_variable_creator_initial_value = functools.partial(
        MirroredExtended._get_variable_creator_initial_value, extended
    )
    try:
        yield
    finally:
        del extended._get_variable_creator_initial_value


def take_from_first(strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]) -> None:
    """Give every replica the first one's values, in one collective for each type."""
    by_type: dict[tf.DType, list[tf.Variable]] = {}
    for variable in variables:
        by_type.setdefault(variable.dtype, []).append(variable)

    def in_replica() -> None:
        for group in by_type.values():
            unpack(of_first(packed(group)), group)

    tf.function(lambda: strategy.run(in_replica), autograph=False)()


def of_first(mine: tf.Tensor) -> tf.Tensor:
    """Return the first replica's value, in replica context."""
    replica = tf.distribute.get_replica_context()
    is_first = tf.equal(replica.replica_id_in_sync_group, 0)
    mine = tf.where(is_first, mine, tf.zeros_like(mine))
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)


def packed(variables: Sequence[tf.Variable]) -> tf.Tensor:
    """Return the values of variables of one type as one vector."""
    return tf.concat([tf.reshape(variable, [-1]) for variable in variables], axis=0)


def unpack(vector: tf.Tensor, variables: Sequence[tf.Variable]) -> None:
    """Assign what `packed` returned."""
    sizes = [variable.shape.num_elements() for variable in variables]
    for variable, part in zip(variables, tf.split(vector, sizes), strict=True):
        variable.assign(tf.reshape(part, variable.shape))


def leave_after_the_others(cluster: Cluster) -> None:
    """Leave without cutting anyone off in the last collective: the chief leaves last.

    It holds TensorFlow's coordination service, in which every other worker leaves a note. A
    failure here comes after the work is done, so nothing is raised.
    """
    if not cluster.has_peers:
        return
    with contextlib.suppress(tf.errors.OpError):
        if not cluster.is_chief:
            context.context().set_config_key_value(f"left/{cluster.index}", "done")
            return
        for index in range(1, len(cluster.workers)):
            context.context().get_config_key_value(
                f"left/{index}", timeout_in_ms=LEAVING_MILLISECONDS
            )
