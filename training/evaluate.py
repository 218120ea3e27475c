"""Exact evaluation: every validation image counted once, whatever the batches and replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from preprocessing.errors import DataError
from training.config import EvaluationConfig
from training.data import Readable, Share, evaluation_batches, evaluation_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Counts; divided only when read."""

    correct_top1: int
    correct_top5: int
    examples: int

    @property
    def top1(self) -> float:
        """Fraction in [0, 1]."""
        return self.correct_top1 / self.examples

    @property
    def top5(self) -> float:
        """Fraction in [0, 1]; ties at the boundary count as hits, as `in_top_k` does."""
        return self.correct_top5 / self.examples


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
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._records = records
        self._config = config
        self._batch_per_replica = batch_per_replica

    def run(self) -> Accuracy:
        """Count over the whole split.

        Raises:
            DataError: The count is not the number of records.
        """
        batches = self._strategy.distribute_datasets_from_function(self._batches)
        steps = evaluation_steps(
            self._records.num_examples,
            self._batch_per_replica * self._strategy.num_replicas_in_sync,
        )
        counts = self._count(iter(batches), tf.constant(steps)).numpy()
        top1, top5, examples = (round(float(each)) for each in counts)
        if examples != self._records.num_examples:
            raise DataError(f"evaluated {examples} of {self._records.num_examples} records")
        return Accuracy(correct_top1=top1, correct_top5=top5, examples=examples)

    def _batches(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return evaluation_batches(
            self._records,
            self._config,
            size=self._model.input_shape[1],
            batch_per_replica=self._batch_per_replica,
            share=share_of(context),
        )

    @tf.function
    def _count(self, iterator: Any, steps: Any) -> Any:
        """`float64 [3]`: correct at 1, correct at 5, examples."""
        totals = tf.zeros([3], tf.float64)
        for _ in tf.range(steps):
            counted = self._strategy.run(self._count_batch, args=next(iterator))
            totals += self._strategy.reduce(tf.distribute.ReduceOp.SUM, counted, axis=None)
        return totals

    def _count_batch(self, images: Any, labels: Any, weights: Any) -> Any:
        logits = self._model(images, training=False)
        hits = [tf.nn.in_top_k(labels, logits, k) for k in (1, 5)]
        return tf.stack(
            [tf.reduce_sum(tf.cast(hit, tf.float64) * tf.cast(weights, tf.float64)) for hit in hits]
            + [tf.reduce_sum(tf.cast(weights, tf.float64))]
        )


def share_of(context: tf.distribute.InputContext) -> Share:
    """This process's part of every global batch."""
    return Share(
        worker_index=context.input_pipeline_id,
        num_workers=context.num_input_pipelines,
        local_replicas=context.num_replicas_in_sync // context.num_input_pipelines,
    )
