"""The inner loop: many steps on the device per call, without work on the host per step.

AutoGraph turns this loop, and that of an evaluation, into a loop of the graph. What else
becomes a graph at the start is kept from it: nothing there needs converting, and looking takes
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from training.config import RunConfig
from training.input.inception import distort
from training.metrics.step_means import StepMeans
from training.optimization import compute
from training.optimization.gradients import Gradients
from training.optimization.state import TrainingState, values

GRADIENT_NORM_EVERY = 10  # steps
DROPOUT_STREAM = 0x0D20  # separates the random numbers of dropout from those of the data

Element = tuple[tf.Tensor, ...]


class TrainSteps:
    """`run(iterator, num_steps)` makes updates and returns their means.

    An element of the iterator is `(images, labels)` per replica, or `(pixels, draws, labels)` of
    `training_batches`, whose flip and colour distortion then happen here.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        state: TrainingState,
        config: RunConfig,
        class_weights: np.ndarray | None = None,
    ) -> None:
        """Build the step.

        Args:
            strategy: How replicas work together.
            state: What the step changes.
            config: Every setting.
            class_weights: Weight of an image in the loss by its label, `float32 [outputs]`; None
                weighs all images equally.
        """
        self._strategy = strategy
        self._state = state
        self._seed = config.seed
        self._calls = 0
        self._communication = compute.communication(config.compute)
        self._gradients = Gradients(state, config, strategy.num_replicas_in_sync, class_weights)
        self._distort = tf.function(
            distort, autograph=False, jit_compile=compute.fuses_distortion(config.compute) or None
        )
        self._apply = tf.function(
            self._update, autograph=False, jit_compile=compute.uses_xla(config.compute) or None
        )
        with strategy.scope():
            # Replicas are summed when the value is read: one collective per call, not per step.
            self._totals = tf.Variable(
                tf.zeros([3]),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="totals",
            )
            self._gradient_norm = tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                name="gradient_norm",
            )

    def run(self, iterator: Iterator[Element], num_steps: int) -> StepMeans:
        """Make `num_steps` updates.

        Returns:
            The means over these steps.
        """
        started = time.monotonic()
        self._calls += 1
        # The profile page shows a call as a step.
        with tf.profiler.experimental.Trace("steps", step_num=self._calls, _r=1):
            regularization, waited = self._run(iterator, tf.constant(num_steps))
            cross_entropy, correct, images = self._totals.numpy()
        seconds = time.monotonic() - started
        norm = self._strategy.experimental_local_results(self._gradient_norm)[0]
        return StepMeans(
            loss=float(cross_entropy / images),
            regularization=float(regularization),
            top1=float(correct / images),
            input_wait=float(waited) / seconds,
            gradient_norm=float(norm.numpy()),
        )

    @tf.function
    def _run(
        self, iterator: Iterator[Element], num_steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._strategy.run(lambda: self._totals.assign(tf.zeros([3])))
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(num_steps):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                element = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(element, expand_composites=True)):
                waited += tf.timestamp() - asked
            self._strategy.run(self._replica_step, args=element)
        return self._state.regularization(), waited

    @tf.autograph.experimental.do_not_convert
    def _replica_step(self, *element: tf.Tensor) -> None:
        """Make one update from this replica's batch."""
        *pictures, labels = element
        images = self._distort(*pictures) if len(pictures) > 1 else pictures[0]
        gradients, counts = self._gradients(images, labels, self._dropout_seed())
        # One collective reduces all gradients, whatever their number.
        gradients = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, gradients, options=self._communication
        )
        is_due = self._state.optimizer.iterations.value % GRADIENT_NORM_EVERY == 0
        tf.cond(is_due, lambda: self._note_norm(gradients), lambda: False)
        self._apply(gradients)
        self._state.optimizer.iterations.assign_add(1)
        self._totals.assign_add(counts)

    def _note_norm(self, gradients: Sequence[tf.Tensor]) -> bool:
        self._gradient_norm.assign(tf.linalg.global_norm(gradients))
        return True

    def _update(self, gradients: Sequence[tf.Tensor]) -> None:
        """Update weights and averages from the summed gradients, equally on every replica."""
        state = self._state
        step = state.optimizer.iterations.value
        learning_rate = state.schedule(step)
        head = {id(variable) for variable in state.classifier.trainable_variables}
        for gradient, variable in zip(gradients, state.model.trainable_variables, strict=True):
            if state.head_steps and id(variable) not in head:  # no gradient: not moved at all
                gradient *= tf.cast(step >= state.head_steps, gradient.dtype)
            state.optimizer.update_step(gradient, variable, learning_rate)
        state.ema.update(values(state.model), step + 1)

    def _dropout_seed(self) -> tf.Tensor:
        """Return `int64 [2]`, which follows from (seed, step, replica)."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        step = tf.cast(self._state.optimizer.iterations.value, tf.int64)
        stream = step * self._strategy.num_replicas_in_sync + tf.cast(replica, tf.int64)
        return tf.stack([tf.constant(self._seed ^ DROPOUT_STREAM, tf.int64), stream])
