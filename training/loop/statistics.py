"""Statistics of batch normalisation, which every replica moves by its own batches."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from preprocessing.errors import DataError
from training.optimization.state import TrainingState, values
from training.workers.collectives import of_first, packed, unpack


class Statistics:
    """The moving statistics of a state and their averages.

    The original keeps those of clone 0 (policy `replica0`); `mean` averages them over replicas.
    Moving averages are linear, so doing this only when the statistics are used has exactly the
    result of doing it in every step, up to the rounding of the means. A run therefore does it at
    the same steps whether it is stopped in between or not.
    """

    def __init__(self, strategy: tf.distribute.Strategy, state: TrainingState, policy: str) -> None:
        trainable = {id(variable) for variable in state.model.trainable_variables}
        indices = [
            index
            for index, variable in enumerate(state.model.variables)
            if id(variable) not in trainable
        ]
        everything = values(state.model)
        self._variables = [everything[index] for index in indices]
        self._variables += [state.ema.shadows[index] for index in indices]
        self._strategy = strategy
        self._state = state
        self._averages = policy == "mean"
        self._equal_at: int | None = None  # the step at which all replicas had the same
        self._share = tf.function(lambda: strategy.run(self._share_in_replica), autograph=False)
        self._rows = tf.function(lambda: strategy.run(self._rows_in_replica), autograph=False)

    def synchronize(self) -> None:
        """Make them the same on every replica; every worker calls this at the same step."""
        if self._equal_at != self._state.step:
            self._share()
            self._equal_at = self._state.step

    def by_replica(self) -> np.ndarray | None:
        """Return those of every replica; every worker calls this at the same step.

        Returns:
            `float32 [replicas, values]`; None if they are equal, or if the first replica's are
            all that the run ever uses.
        """
        is_one = self._strategy.num_replicas_in_sync == 1
        if is_one or not self._averages or self._equal_at == self._state.step:
            return None
        rows: np.ndarray = self._strategy.experimental_local_results(self._rows())[0].numpy()
        return rows

    def restore(self, by_replica: np.ndarray | None, path: str) -> None:
        """Continue from a state that was just restored from the checkpoint at `path`.

        Args:
            by_replica: What `by_replica` returned when the checkpoint was saved.
            path: Where the checkpoint is, for the error.

        Raises:
            DataError: There are not as many replicas or values as in the checkpoint.
        """
        if by_replica is None:
            self._equal_at = self._state.step
            return
        expected = (
            self._strategy.num_replicas_in_sync,
            sum(variable.shape.num_elements() for variable in self._variables),
        )
        if by_replica.shape != expected:
            raise DataError(
                f"{path} is not a checkpoint of this run: its statistics by replica have the "
                f"shape {by_replica.shape} (expected {expected})"
            )
        rows = tf.constant(by_replica)
        assign = tf.function(
            lambda: self._strategy.run(self._assign_row, args=(rows,)), autograph=False
        )
        assign()

    def _share_in_replica(self) -> None:
        mine = packed(self._variables)
        if self._averages:
            replica = tf.distribute.get_replica_context()
            shared = replica.all_reduce(tf.distribute.ReduceOp.MEAN, mine)
        else:
            shared = of_first(mine)
        unpack(shared, self._variables)

    def _rows_in_replica(self) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        mine = packed(self._variables)
        row = replica.replica_id_in_sync_group
        is_mine = tf.range(self._strategy.num_replicas_in_sync)[:, tf.newaxis] == row
        rows = tf.where(is_mine, mine[tf.newaxis], 0.0)
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, rows)

    def _assign_row(self, rows: tf.Tensor) -> None:
        replica = tf.distribute.get_replica_context()
        unpack(rows[replica.replica_id_in_sync_group], self._variables)
