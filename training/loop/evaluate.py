"""Exact evaluation: every validation image counted once, whatever the batches and replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from preprocessing.errors import DataError
from training.config import EvaluationConfig
from training.input.data import Share, evaluation_batches, evaluation_steps
from training.input.records import Readable, damage_named
from training.metrics.accuracy import Counts, EvaluatedImages

STEPS_PER_CALL = 50  # then the host is heard


class Evaluator:
    """Evaluates one model on one split, on all replicas of a strategy."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        records: Readable,
        config: EvaluationConfig,
        *,
        batch_per_replica: int,
        before_call: Callable[[], None] = lambda: None,
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._records = records
        self._config = config
        self._batch_per_replica = batch_per_replica
        self._before_call = before_call

    def run(self) -> Counts:
        """Count correct answers over the whole split.

        Raises:
            DataError: The count is not the number of records.
        """
        return self.predict().counts

    def predict(self) -> EvaluatedImages:
        """Classify the whole split, with the same result on every worker.

        Raises:
            DataError: The count is not the number of records.
        """
        iterator = iter(self._strategy.distribute_datasets_from_function(self._batches))
        global_batch = self._batch_per_replica * self._strategy.num_replicas_in_sync
        steps = evaluation_steps(self._records.num_examples, global_batch)
        parts = []
        for start in range(0, steps, STEPS_PER_CALL):
            self._before_call()
            count = min(STEPS_PER_CALL, steps - start)
            with damage_named(self._records):
                rows = self._predict(iterator, tf.constant(count)).numpy()
            # By replica, step, image; the order of the records is by step, replica, image.
            parts.append(rows.transpose([1, 0, 2, 3]).reshape([-1, rows.shape[-1]]))
        rows = np.concatenate(parts)
        rows = rows[rows[:, 0] > 0]
        if len(rows) != self._records.num_examples:
            raise DataError(f"evaluated {len(rows)} of {self._records.num_examples} records")
        return EvaluatedImages(
            labels=rows[:, 1].astype(np.int64),
            predicted=rows[:, 2].astype(np.int64),
            confidence=rows[:, 3],
            hits=rows[:, 4:] > 0,
        )

    def _batches(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return evaluation_batches(
            self._records,
            self._config,
            size=self._model.input_shape[1],
            batch_per_replica=self._batch_per_replica,
            share=Share.of(context),
        )

    @tf.function
    def _predict(self, iterator: Iterator[tuple[tf.Tensor, ...]], steps: tf.Tensor) -> tf.Tensor:
        """Return `float32 [R, steps, B, 6]`; `_predict_batch` describes the columns."""
        batch = self._batch_per_replica

        @tf.autograph.experimental.do_not_convert
        def in_replica(rows: tf.Tensor, step: tf.Tensor, *element: tf.Tensor) -> tf.Tensor:
            return tf.tensor_scatter_nd_update(rows, [[step]], self._predict_batch(*element)[None])

        rows = self._strategy.run(lambda: tf.zeros([steps, batch, 6]))
        for step in tf.range(steps):
            rows = self._strategy.run(in_replica, args=(rows, step, *next(iterator)))
        placed = self._strategy.run(self._place, args=(rows,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, placed, axis=None)

    @tf.autograph.experimental.do_not_convert
    def _place(self, rows: tf.Tensor) -> tf.Tensor:
        """Return `[R, steps, B, 6]`, zero outside this replica's part; one sum joins the parts."""
        replica = tf.distribute.get_replica_context()
        own = tf.one_hot(replica.replica_id_in_sync_group, replica.num_replicas_in_sync)
        return own[:, None, None, None] * rows[None]

    def _predict_batch(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Return `float32 [B, 6]`: weight, label, class, probability, hit at 1, hit at 5."""
        logits = self._model(images, training=False)
        columns = [
            weights,
            labels,
            tf.argmax(logits, axis=-1),
            tf.reduce_max(tf.nn.softmax(logits), axis=-1),
            *(tf.nn.in_top_k(labels, logits, k) for k in (1, 5)),
        ]
        return tf.stack([tf.cast(column, tf.float32) for column in columns], axis=1)
