"""One replica's share of a step: loss, gradients and the counts that are reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from training.config import RunConfig
from training.models.layout import Architecture
from training.models.mobilenet import frozen_statistics, layer_name, output_name
from training.optimization.compute import uses_xla
from training.optimization.state import TrainingState


class Gradients:
    """`gradients(images, labels, seed)`: forward and backward, compiled if the config says so.

    Only this part and the update can be compiled; the distributed step around them cannot.
    """

    def __init__(self, state: TrainingState, config: RunConfig, num_replicas: int) -> None:
        self._state = state
        self._global_batch = config.training.batch_per_replica * num_replicas
        self._dropout = config.model.dropout
        self._compiled = uses_xla(config.compute)
        self._loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.training.label_smoothing, reduction=None
        )
        self._segments = [state.features]
        if config.compute.recompute:
            self._segments = segments(state.features, state.layout)
        self._run = tf.function(self._forward_and_backward, jit_compile=self._compiled or None)

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[list[Any], Any]:
        """Call in replica context.

        Args:
            images: `float32 [B, S, S, 3]` in [-1, 1].
            labels: `int64 [B]`.
            seed: `int64 [2]`, of the dropout.

        Returns:
            Gradients in the order of the trainable variables, to be summed over replicas,
            and `float32 [3]`: cross-entropy, correct answers and images, all sums.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        is_first = tf.cast(tf.equal(replica, 0), tf.float32)
        return self._run(images, labels, self._dropout_mask(labels, seed), is_first)

    def _dropout_mask(self, labels: Any, seed: Any) -> Any:
        """`float32 [B, 1, 1, C]`, made here because XLA and bfloat16 draw other numbers."""
        ones = tf.ones([tf.shape(labels)[0], *self._state.features.output.shape[1:]])
        return tf.nn.experimental.stateless_dropout(ones, self._dropout, seed=seed)

    def _forward_and_backward(
        self, images: Any, labels: Any, mask: Any, is_first: Any
    ) -> tuple[list[Any], Any]:
        variables = self._state.model.trainable_variables
        gradients: dict[int, Any] = {}
        boundaries = [images]
        for segment in self._segments[:-1]:
            boundaries.append(segment(boundaries[-1], training=True))

        head = [*self._segments[-1].trainable_variables, *self._state.classifier.trainable_weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([boundaries[-1], *[variable.value for variable in head]])
            features = self._segments[-1](boundaries[-1], training=True)
            loss, counts = self._loss_of(features, labels, mask)
        upstream = self._collect(tape, loss, None, boundaries[-1], head, gradients)
        for segment, start in zip(self._segments[-2::-1], boundaries[-2::-1], strict=True):
            start = self._not_before(upstream, start)
            with (
                frozen_statistics(),  # the first pass has moved them
                tf.GradientTape(watch_accessed_variables=False) as tape,
            ):
                tape.watch([start, *[variable.value for variable in segment.trainable_variables]])
                end = segment(start, training=True)
            upstream = self._collect(
                tape, end, upstream, start, segment.trainable_variables, gradients
            )

        with tf.GradientTape() as tape:
            # The first replica alone carries the L2 term, as slim's model_deploy has it: parts
            # of it on every replica would add up in another order, to other last bits.
            decay = tf.add_n(self._state.model.losses) * is_first
        shrinking = tape.gradient(decay, [variable.value for variable in variables])
        return [
            gradients[id(variable)] + (0.0 if shrink is None else shrink)
            for variable, shrink in zip(variables, shrinking, strict=True)
        ], counts

    def _loss_of(self, features: Any, labels: Any, mask: Any) -> tuple[Any, Any]:
        state = self._state
        logits = tf.squeeze(state.classifier(tf.cast(features, tf.float32) * mask), [1, 2])
        targets = tf.one_hot(labels, state.classifier.filters)
        cross_entropy = tf.reduce_sum(self._loss(targets, logits))
        correct = tf.math.count_nonzero(tf.argmax(logits, axis=-1) == labels, dtype=tf.float32)
        images = tf.cast(tf.shape(labels)[0], tf.float32)
        # Summed over replicas, so divided by the global batch.
        return cross_entropy / self._global_batch, tf.stack([cross_entropy, correct, images])

    def _collect(
        self,
        tape: tf.GradientTape,
        target: Any,
        upstream: Any,
        start: Any,
        variables: Sequence[Any],
        gradients: dict[int, Any],
    ) -> Any:
        """Put the gradients of `variables` aside and return that of `start`."""
        sources = [start, *[variable.value for variable in variables]]
        of_start, *rest = tape.gradient(target, sources, output_gradients=upstream)
        gradients |= {
            id(variable): gradient for variable, gradient in zip(variables, rest, strict=True)
        }
        return of_start

    def _not_before(self, event: Any, tensor: Any) -> Any:
        """`tensor`, in a way that nobody merges what follows with its first computation."""
        if self._compiled:
            return gen_xla_ops.xla_optimization_barrier(input=[tensor, event])[0]
        with tf.control_dependencies([event]):
            return tf.identity(tensor)


def segments(features: keras.Model, layout: Architecture) -> list[keras.Model]:
    """`features` cut at the ends of its blocks, in order; as a chain they are `features`."""
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
