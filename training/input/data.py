"""Batches from records: a function of (seed, step), so a resumed run sees the same images.

The training stream is endless: position p belongs to epoch p // N and is the example that
this epoch's permutation puts at p mod N. Step s consumes positions [s G, (s + 1) G), replica r
of it [s G + r B, s G + (r + 1) B). Hence every example is seen exactly once per epoch, by
any number of workers, and a run needs only the step to resume there.

Letters: N examples, G global batch, B batch per replica, S image side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from training.config import AugmentationConfig, EvaluationConfig
from training.input.inception import crop, distort, eval_view
from training.input.parallelism import PARALLEL_CALLS, untuned
from training.input.records import Readable, epoch_order

EVALUATION_BATCH = 100  # images per replica and step, as in slim's eval_image_classifier
PARALLEL_BATCHES = 2
PREFETCHED_BATCHES = 4  # ahead of the devices' own buffers
MAX_RUN = 20  # records of an evaluation that are read and decoded together
READS = 16  # records read at the same time where cores are not what limits, as from a bucket

do_not_convert = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True, slots=True)
class Share:
    """The part of every global batch that one process reads."""

    worker_index: int
    num_workers: int
    local_replicas: int

    @classmethod
    def of(cls, context: tf.distribute.InputContext) -> Share:
        """Return the part of the process that a strategy asks for its input."""
        return cls(
            worker_index=context.input_pipeline_id,
            num_workers=context.num_input_pipelines,
            local_replicas=context.num_replicas_in_sync // context.num_input_pipelines,
        )

    @property
    def num_replicas(self) -> int:
        """Number of replicas over all workers."""
        return self.num_workers * self.local_replicas


SINGLE_PROCESS = Share(worker_index=0, num_workers=1, local_replicas=1)


def training_batches(
    records: Readable,
    augmentation: AugmentationConfig,
    *,
    size: int,
    seed: int,
    batch_per_replica: int,
    share: Share,
    start_step: int,
) -> tf.data.Dataset:
    """Return the endless batches of this process from `start_step` on, one per local replica.

    Returns:
        Elements `(pixels, draws, labels)`: the arguments of `inception.distort`, `[B, S, S, 3]` in
        [0, 255] and `float32 [B, 4]`, and `int64 [B]`.
    """

    def example(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def view(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            jpeg, label = records.read(index)
            # The position in the endless stream differs in every epoch, and so does the view.
            pixels, draws = crop(jpeg, augmentation, size, tf.stack([seed, position]))
            return pixels, draws, label

        return records.view(epoch_order(position, records.num_examples, seed), view)

    return _endless(_positions(batch_per_replica, share, start_step), example, batch_per_replica)


def finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return `training_batches`, distorted on the host, as `(images, labels)` for the network.

    Returns:
        Elements of `float32 [B, S, S, 3]` in [-1, 1] and `int64 [B]`.
    """
    return batches.map(
        do_not_convert(lambda pixels, draws, labels: (distort(pixels, draws), labels))
    )


def evaluation_batches(
    records: Readable,
    config: EvaluationConfig,
    *,
    size: int,
    batch_per_replica: int,
    share: Share,
) -> tf.data.Dataset:
    """Return every example once, in order; padding of the last global batch has weight 0.

    Returns:
        Elements `(images, labels, weights)`: `float32 [B, S, S, 3]` in [-1, 1], `int64 [B]`
        and `float32 [B]`, 1 for an example and 0 for padding. Take `evaluation_steps` of them.
    """
    count = _largest_divisor(batch_per_replica, MAX_RUN)

    def run_from(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        jpegs, labels = records.read_run(first, count)
        is_example = first + tf.range(count, dtype=tf.int64) < records.num_examples
        images = tf.map_fn(
            lambda jpeg: eval_view(jpeg, size, config),
            jpegs,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
        )
        return images, labels, tf.cast(is_example, tf.float32)

    def joined(*runs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(tf.reshape(part, [batch_per_replica, *part.shape[2:]]) for part in runs)

    firsts = _positions(batch_per_replica, share, 0, every=count)
    return _endless(firsts, run_from, batch_per_replica // count, joined)


def _largest_divisor(number: int, most: int) -> int:
    return max(divisor for divisor in range(1, most + 1) if number % divisor == 0)


def evaluation_examples(
    records: Readable, config: EvaluationConfig, size: int
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function from positions `int64 [N]` in a split to these examples.

    Returns:
        A function that returns `(images, labels)`: `float32 [N, S, S, 3]` in [-1, 1] and
        `int64 [N]`. A dataset for as few images would take longer to build than to read.
    """

    def example(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        jpeg, label = records.read(position)
        return eval_view(jpeg, size, config), label

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)
    def examples(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.map_fn(
            example,
            positions,
            fn_output_signature=(tf.float32, tf.int64),
            parallel_iterations=READS,
        )

    def read(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, labels = examples(tf.constant(positions, tf.int64))
        return images.numpy(), labels.numpy()

    return read


def evaluation_steps(num_examples: int, global_batch: int) -> int:
    """Return the number of global batches that hold every example once."""
    return -(-num_examples // global_batch)


def _positions(
    batch_per_replica: int, share: Share, start_step: int, every: int = 1
) -> tf.data.Dataset:
    """Return the positions in the endless stream that this process reads, in order.

    With `every`, a divisor of the batch, these are the first positions of runs of that length.
    """
    per_step = batch_per_replica * share.num_replicas
    mine = batch_per_replica * share.local_replicas

    def of_step(step: tf.Tensor) -> tf.data.Dataset:
        first = step * per_step + share.worker_index * mine
        return tf.data.Dataset.range(first, first + mine, every)

    return tf.data.Dataset.counter(start_step).flat_map(do_not_convert(of_step))


def _endless(
    positions: tf.data.Dataset,
    example: Callable[[tf.Tensor], tf.Tensor],
    batch: int,
    finish: Callable[..., tuple[tf.Tensor, ...]] | None = None,
) -> tf.data.Dataset:
    """Return batches of `example(position)`; memory holds a few of them, whatever N is.

    Args:
        positions: The positions, endless.
        example: Function from a position to an element.
        batch: Number of elements in a batch.
        finish: Function of each batch.
    """
    examples = positions.map(
        do_not_convert(example), num_parallel_calls=PARALLEL_CALLS, deterministic=True
    )
    batches = examples.batch(
        # Parallel, because one thread copies 5 GB/s: 8,000 images/s of float32 at S = 224.
        batch,
        drop_remainder=True,
        num_parallel_calls=PARALLEL_BATCHES,
        deterministic=True,
    )
    if finish:
        batches = batches.map(do_not_convert(finish))
    # The cardinality is declared: a dataset that might end costs a collective per step.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return untuned(batches.apply(endless).prefetch(PREFETCHED_BATCHES))
