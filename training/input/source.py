"""Sources of a run's images: a records folder, its copy in memory, or synthetic data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from training.config import SYNTHETIC, RunConfig
from training.input import synthetic
from training.input.data import Share, training_batches
from training.input.data_service import served
from training.input.parallelism import PARALLEL_CALLS, untuned
from training.input.records import Make, Readable, Records
from training.workers.failures import DamagedRecord

CACHE_FRACTION = 0.5  # largest share of this machine's memory


@dataclass(frozen=True, slots=True)
class Source:
    """Both splits, and the decoder of the training split.

    Attributes:
        data_service: `grpc://host:port` of a tf.data service; None to decode in this process.
    """

    manifest: Manifest
    train: Readable
    validation: Readable
    data_service: str | None
    files: Records | None  # the training split on disk, which may have corrupt records
    folder: str

    @classmethod
    def open(cls, records: str, config: RunConfig, data_service: str | None = None) -> Source:
        """Open a records folder, or `SYNTHETIC`.

        Raises:
            UsageError: The folder is not complete, or the settings contradict each other.
        """
        manifest = synthetic.read_manifest(records)
        if records == SYNTHETIC:
            if data_service:
                raise UsageError("--synthetic reads nothing; leave out --data-service")
            splits = [
                SyntheticRecords(manifest.num_examples(split), len(manifest.classes))
                for split in ("train", "validation")
            ]
            return cls(manifest, splits[0], splits[1], None, None, records)
        if data_service and config.input.cache:
            raise UsageError(
                "input.cache keeps images in this process, --data-service reads them elsewhere; "
                "leave out one of them"
            )
        if data_service and config.training.max_corrupt_records:
            raise UsageError(
                "training.max_corrupt_records counts in this process, --data-service reads "
                "elsewhere; leave out one of them"
            )
        if not manifest.num_examples("train"):
            raise UsageError(
                f"{records} has no training images, it is for evaluation alone; prepare or adopt "
                "the training set too"
            )
        files = Records(records, manifest, "train", config.training.max_corrupt_records)
        train: Readable = files
        if config.input.cache:
            train = CachedRecords(train, sum(shard.bytes for shard in manifest.shards["train"]))
        validation = Records(records, manifest, "validation")
        return cls(manifest, train, validation, data_service, files, records)

    def batches(
        self, config: RunConfig, share: Share, start_step: int, seed: int | None = None
    ) -> tf.data.Dataset:
        """Return the `training_batches` of a run, wherever they are made, for `seed` or its own."""
        size = config.variant.resolution
        batch = config.training.batch_per_replica
        if isinstance(self.train, SyntheticRecords):
            return self.train.batches(size, batch, config.augmentation.pixels)
        batches = training_batches(
            self.train,
            config.augmentation,
            size=size,
            seed=config.seed if seed is None else seed,
            batch_per_replica=batch,
            share=share,
            start_step=start_step,
        )
        return served(batches, self.data_service) if self.data_service else batches


class CachedRecords:
    """Every encoded image of a split in memory: the same bytes, read once."""

    def __init__(self, records: Readable, num_bytes: int) -> None:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * CACHE_FRACTION
        if num_bytes > available:
            raise UsageError(
                f"input.cache would keep {num_bytes / 1e9:.1f} GB, half of this machine's memory "
                f"is {available / 1e9:.1f} GB; leave it out, the system caches files itself"
            )
        self.num_examples = records.num_examples
        self.folder = records.folder
        self.view = records.view
        self.first_damaged = records.first_damaged
        everything = tf.data.Dataset.range(records.num_examples).map(
            lambda index: records.view(index, records.read),
            num_parallel_calls=PARALLEL_CALLS,
            deterministic=True,
        )
        jpegs, labels = zip(*untuned(everything).as_numpy_iterator(), strict=True)
        self._jpegs, self._labels = tf.constant(jpegs), tf.constant(labels, tf.int64)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return record `index` (int64 scalar) as `(jpeg, label)`: scalar string, scalar int64."""
        return self._jpegs[index], self._labels[index]

    def read_run(self, first: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the records from `first` on as `(jpegs, labels)`, `[count]` each."""
        indices = tf.minimum(first + tf.range(count, dtype=tf.int64), self.num_examples - 1)
        return tf.gather(self._jpegs, indices), tf.gather(self._labels, indices)


class SyntheticRecords:
    """Noise with labels; `batches` costs nothing, `read` no more than decoding a small JPEG."""

    folder = SYNTHETIC

    def __init__(self, num_examples: int, num_classes: int) -> None:
        self.num_examples = num_examples
        self._num_classes = num_classes
        noise = tf.random.stateless_uniform([64, 64, 3], [0, 0], 0, 256, tf.int32)
        self._jpeg = tf.io.encode_jpeg(tf.cast(noise, tf.uint8))

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return record `index` (int64 scalar) as `(jpeg, label)`: scalar string, scalar int64."""
        return tf.identity(self._jpeg), index % self._num_classes + 1

    def read_run(self, first: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the records from `first` on as `(jpegs, labels)`, `[count]` each."""
        indices = first + tf.range(count, dtype=tf.int64)
        return tf.fill([count], self._jpeg), indices % self._num_classes + 1

    def view(self, index: tf.Tensor, make: Make) -> tuple[tf.Tensor, ...]:
        """Return `make(index)`."""
        return make(index)

    def first_damaged(self, positions: Sequence[int], seed: int | None) -> DamagedRecord | None:
        """Return None: nothing is damaged."""
        return None

    def batches(self, size: int, batch: int, pixels: str) -> tf.data.Dataset:
        """Repeat one batch for ever, in the form of `training_batches`."""
        noise = tf.random.stateless_uniform([batch, size, size, 3], [0, 1], 0.0, 255.0)
        draws = tf.tile([[0.0, 0.0, 1.0, 0.0]], [batch, 1])
        labels = tf.range(batch, dtype=tf.int64) % self._num_classes + 1
        element = (tf.cast(noise, pixels), draws, labels)
        return untuned(tf.data.Dataset.from_tensors(element).repeat().prefetch(2))
