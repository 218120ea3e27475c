"""Batches from records: a function of (seed, step), so a resumed run sees the same images.

The training stream is endless: position p belongs to epoch p // N and is the example that
this epoch's permutation puts at p mod N. Step s consumes positions [s G, (s + 1) G), replica r
of it [s G + r B, s G + (r + 1) B). Hence every example is seen exactly once per epoch, by
any number of workers, and a run needs only the step to resume there.

Letters: N examples, G global batch, B batch per replica, S image side in pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records import schema
from preprocessing.records.schema import Manifest
from training.config import AugmentationConfig, EvaluationConfig
from training.input.inception import crop, distort, eval_view

logger = logging.getLogger(__name__)

READ_BUFFER_BYTES = 128 * 1024  # about one ImageNet record
EVALUATION_BATCH = 100  # images per replica and step, as in slim's eval_image_classifier
PARALLEL_BATCHES = 2
PREFETCHED_BATCHES = 4  # ahead of the devices' own buffers


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


class Readable(Protocol):
    """One split that is readable at any record: in files, in memory or synthetic."""

    num_examples: int

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return record `index` (int64 scalar) as `(jpeg, label)`: scalar string, scalar int64."""


class Records:
    """One split of a records folder, readable at any record.

    Up to `max_corrupt` records may fail their CRC; each is replaced by the next one.
    """

    def __init__(self, folder: str, manifest: Manifest, split: str, max_corrupt: int = 0) -> None:
        self.folder = folder
        self._max_corrupt = max_corrupt
        self._corrupt: set[int] = set()
        if split not in manifest.shards:
            raise UsageError(f"{folder} has no split {split!r}")
        shard_index, offsets = schema.read_record_offsets(folder, manifest, split)
        self.num_examples = len(offsets)
        self._files = tf.constant(
            [storage.join(folder, shard.file) for shard in manifest.shards[split]]
        )
        self._shard_index = tf.constant(shard_index)
        self._offsets = tf.constant(offsets)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return record `index` (int64 scalar) as `(jpeg, label)`: scalar string, scalar int64.

        The record's CRC is checked; a corrupt one raises `tf.errors.DataLossError`.
        """
        record = self._record(index)
        if self._max_corrupt:
            record = record.ignore_errors(log_warning=False).concatenate(self._instead_of(index))
        features = tf.io.parse_single_example(
            record.take(1).get_single_element(),
            {
                schema.ENCODED: tf.io.FixedLenFeature([], tf.string),
                schema.LABEL: tf.io.FixedLenFeature([], tf.int64),
            },
        )
        return features[schema.ENCODED], features[schema.LABEL]

    @property
    def corrupt(self) -> int:
        """Corrupt records that this process has met and replaced, each counted once."""
        return len(self._corrupt)

    def raise_if_too_many_corrupt(self) -> None:
        """Raise if more corrupt records were met than allowed; the loop calls this regularly.

        Raises:
            DataError: More than `max_corrupt` records were replaced; the message names them.
        """
        if len(self._corrupt) > self._max_corrupt:
            where = "; ".join(self._place(index) for index in sorted(self._corrupt))
            raise DataError(
                f"{len(self._corrupt)} corrupt records, more than the {self._max_corrupt} that "
                f"training.max_corrupt_records allows: {where}; write these shards again"
            )

    def first_corrupt(self, positions: Iterable[int], seed: int) -> str | None:
        """Return file and byte of the first corrupt record in the stream, or None."""
        for position in positions:
            index = int(epoch_order(tf.constant(position, tf.int64), self.num_examples, seed))
            try:
                self._record(tf.constant(index, tf.int64)).get_single_element()
            except tf.errors.DataLossError:
                return self._place(index)
        return None

    def _record(self, index: tf.Tensor) -> tf.data.Dataset:
        """Return the record at `index` and those that follow it in its shard."""
        return tf.data.experimental.from_variant(
            tf.raw_ops.TFRecordDatasetV2(
                filenames=[self._files[self._shard_index[index]]],
                compression_type="",
                buffer_size=READ_BUFFER_BYTES,
                byte_offsets=[self._offsets[index]],
            ),
            tf.TensorSpec([], tf.string),
        ).take(1)

    def _instead_of(self, index: tf.Tensor) -> tf.data.Dataset:
        """Return the next record, always the same; computed only if that at `index` is corrupt."""

        def note(corrupt: tf.Tensor) -> tf.Tensor:
            if int(corrupt) not in self._corrupt:
                self._corrupt.add(int(corrupt))
                where = self._place(int(corrupt))
                logger.warning("train: corrupt record replaced by the next: %s", where)
            return corrupt

        def next_one(corrupt: tf.Tensor) -> tf.data.Dataset:
            noted = tf.numpy_function(note, [corrupt], tf.int64, stateful=True)
            noted.set_shape([])
            return self._record((noted + 1) % self.num_examples)

        return tf.data.Dataset.from_tensors(index).flat_map(next_one)

    def _place(self, index: int) -> str:
        file = self._files[int(self._shard_index[index])].numpy().decode()
        return f"{file} at byte {int(self._offsets[index])}"


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
        jpeg, label = records.read(epoch_order(position, records.num_examples, seed))
        # The position in the endless stream differs in every epoch, and so does the view.
        pixels, draws = crop(jpeg, augmentation, size, tf.stack([seed, position]))
        return pixels, draws, label

    return _endless(_positions(batch_per_replica, share, start_step), example, batch_per_replica)


def finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return `training_batches`, distorted on the host, as `(images, labels)` for the network.

    Returns:
        Elements of `float32 [B, S, S, 3]` in [-1, 1] and `int64 [B]`.
    """
    return batches.map(lambda pixels, draws, labels: (distort(pixels, draws), labels))


def epoch_order(position: tf.Tensor, num_examples: int, seed: int) -> tf.Tensor:
    """Return the example at `position` (int64 scalar) of the endless stream.

    Each epoch has a keyed permutation, so any position is found without those before it.
    """
    epoch = position // num_examples
    return tf.random.experimental.index_shuffle(
        position % num_examples,
        seed=tf.stack([tf.cast(seed, tf.int64), epoch]),
        max_index=num_examples - 1,
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

    def example(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        is_example = position < records.num_examples
        jpeg, label = records.read(tf.where(is_example, position, 0))
        return eval_view(jpeg, size, config), label, tf.cast(is_example, tf.float32)

    return _endless(_positions(batch_per_replica, share, 0), example, batch_per_replica)


def evaluation_steps(num_examples: int, global_batch: int) -> int:
    """Return the number of global batches that hold every example once."""
    return -(-num_examples // global_batch)


def _positions(batch_per_replica: int, share: Share, start_step: int) -> tf.data.Dataset:
    """Return the positions in the endless stream that this process reads, in order."""
    per_step = batch_per_replica * share.num_replicas
    mine = batch_per_replica * share.local_replicas

    def of_step(step: tf.Tensor) -> tf.data.Dataset:
        first = step * per_step + share.worker_index * mine
        return tf.data.Dataset.range(first, first + mine)

    return tf.data.Dataset.counter(start_step).flat_map(of_step)


def _endless(
    positions: tf.data.Dataset, example: Callable[[tf.Tensor], tf.Tensor], batch_per_replica: int
) -> tf.data.Dataset:
    """Return batches of `example(position)`; memory holds a few of them, whatever N is."""
    batches = positions.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(
        # Parallel, because one thread copies 5 GB/s: 8,000 images/s of float32 at S = 224.
        batch_per_replica,
        drop_remainder=True,
        num_parallel_calls=PARALLEL_BATCHES,
        deterministic=True,
    )
    # The cardinality is declared: a dataset that might end costs a collective per step.
    return batches.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    ).prefetch(PREFETCHED_BATCHES)
