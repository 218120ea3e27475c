"""The part of a step that one replica computes: loss, gradients and reported counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from training.config import RunConfig
from training.models.layout import Architecture
from training.models.mobilenet import frozen_statistics, layer_name, output_name
from training.optimization.compute import uses_xla
from training.optimization.state import TrainingState


@dataclass(frozen=True, slots=True)
class Backward:
    """The result of a backward pass: gradients by `id` of their variable, and that of its start."""

    of_variables: dict[int, tf.Tensor]
    of_start: tf.Tensor

    @classmethod
    def through(
        cls,
        tape: tf.GradientTape,
        target: tf.Tensor,
        *,
        upstream: tf.Tensor | None,
        start: tf.Tensor,
        variables: Sequence[keras.Variable],
    ) -> Backward:
        """Differentiate `target`, whose own gradient is `upstream`, as the tape recorded it."""
        sources = [start, *[variable.value for variable in variables]]
        of_start, *rest = tape.gradient(target, sources, output_gradients=upstream)
        ids = [id(variable) for variable in variables]
        return cls(dict(zip(ids, rest, strict=True)), of_start)


class Gradients:
    """`gradients(images, labels, seed)`: forward and backward passes, compiled if so configured.

    Only this part and the update can be compiled; the distributed step around them cannot.
    """

    def __init__(
        self,
        state: TrainingState,
        config: RunConfig,
        num_replicas: int,
        class_weights: np.ndarray | None = None,
    ) -> None:
        self._state = state
        self._global_batch = config.training.batch_per_replica * num_replicas
        self._class_weights = class_weights
        self._dropout = config.model.dropout
        self._compiled = uses_xla(config.compute)
        self._loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.training.label_smoothing, reduction=None
        )
        self._segments = [state.features]
        if config.compute.recompute:
            self._segments = segments(state.features, state.layout)
        self._run = tf.function(
            self._forward_and_backward, autograph=False, jit_compile=self._compiled or None
        )

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Compute the gradients of one batch, in replica context.

        Args:
            images: `float32 [B, S, S, 3]` in [-1, 1].
            labels: `int64 [B]`.
            seed: Seed of the dropout, `int64 [2]`.

        Returns:
            Gradients in the order of the trainable variables, to be summed over replicas,
            and `float32 [3]`: cross-entropy, correct answers and images, all sums.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        is_first = tf.cast(tf.equal(replica, 0), tf.float32)
        return self._run(images, labels, self._dropout_mask(labels, seed), is_first)

    def _dropout_mask(self, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return `float32 [B, 1, 1, C]`, drawn here because XLA and bfloat16 draw other numbers."""
        ones = tf.ones([tf.shape(labels)[0], *self._state.features.output.shape[1:]])
        return tf.nn.experimental.stateless_dropout(ones, self._dropout, seed=seed)

    def _forward_and_backward(
        self, images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, is_first: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        variables = self._state.model.trainable_variables
        boundaries = [images]
        for segment in self._segments[:-1]:
            boundaries.append(segment(boundaries[-1], training=True))

        head = [*self._segments[-1].trainable_variables, *self._state.classifier.trainable_weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([boundaries[-1], *[variable.value for variable in head]])
            features = self._segments[-1](boundaries[-1], training=True)
            loss, counts = self._loss_of(features, labels, mask)
        backward = Backward.through(tape, loss, upstream=None, start=boundaries[-1], variables=head)
        gradients = backward.of_variables
        for segment, start in zip(self._segments[-2::-1], boundaries[-2::-1], strict=True):
            start = self._not_before(backward.of_start, start)
            with (
                frozen_statistics(),  # the first pass has moved the statistics
                tf.GradientTape(watch_accessed_variables=False) as tape,
            ):
                tape.watch([start, *[variable.value for variable in segment.trainable_variables]])
                end = segment(start, training=True)
            backward = Backward.through(
                tape,
                end,
                upstream=backward.of_start,
                start=start,
                variables=segment.trainable_variables,
            )
            gradients |= backward.of_variables

        with tf.GradientTape() as tape:
            # Only the first replica carries the L2 term, as in slim's model_deploy: parts of it on
            # every replica would be added in another order, with other last bits.
            decay = self._state.regularization() * is_first
        shrinking = tape.gradient(decay, [variable.value for variable in variables])
        return [
            gradients[id(variable)] + (0.0 if shrink is None else shrink)
            for variable, shrink in zip(variables, shrinking, strict=True)
        ], counts

    def _loss_of(
        self, features: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        state = self._state
        logits = tf.squeeze(state.classifier(tf.cast(features, tf.float32) * mask), [1, 2])
        targets = tf.one_hot(labels, state.classifier.filters)
        losses = self._loss(targets, logits)
        if self._class_weights is not None:
            losses *= tf.gather(self._class_weights, labels)
        cross_entropy = tf.reduce_sum(losses)
        correct = tf.math.count_nonzero(tf.argmax(logits, axis=-1) == labels, dtype=tf.float32)
        images = tf.cast(tf.shape(labels)[0], tf.float32)
        # The loss is summed over replicas, so it is divided by the global batch.
        return cross_entropy / self._global_batch, tf.stack([cross_entropy, correct, images])

    def _not_before(self, event: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
        """Return `tensor` so that no optimizer merges the recomputation with the first pass."""
        if self._compiled:
            return gen_xla_ops.xla_optimization_barrier(input=[tensor, event])[0]
        with tf.control_dependencies([event]):
            return tf.identity(tensor)


def segments(features: keras.Model, layout: Architecture) -> list[keras.Model]:
    """Cut `features` at the ends of its blocks; the segments in order are equal to it."""
    ends = [
        f"{layer_name(block.scope)}_add" if block.residual else output_name(block.convolutions[-1])
        for block in layout.blocks[:-1]
    ]
    outputs = [features.get_layer(name).output for name in ends] + [features.output]
    inputs = [features.input, *outputs[:-1]]
    return [
        keras.Model(start, end, name=f"segment_{index}")
        for index, (start, end) in enumerate(zip(inputs, outputs, strict=True))
    ]
