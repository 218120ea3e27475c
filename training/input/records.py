"""One split of a records folder, readable at any record, and what is done with damaged records."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Protocol

import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records import schema
from preprocessing.records.schema import Manifest
from training.input.parallelism import PARALLEL_CALLS, untuned
from training.workers.failures import DamagedRecord, explain, reason_of

logger = logging.getLogger(__name__)

READ_BUFFER_BYTES = 128 * 1024  # about one ImageNet record
# Raised by a record that fails its CRC, and by an image that the decoder refuses.
DAMAGE = (tf.errors.DataLossError, tf.errors.InvalidArgumentError)

Make = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


class Readable(Protocol):
    """One split that is readable at any record: in files, in memory or synthetic."""

    num_examples: int
    folder: str

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return record `index` (int64 scalar) as `(jpeg, label)`: scalar string, scalar int64."""

    def read_run(self, first: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the records from `first` (int64 scalar) on as `(jpegs, labels)`.

        Returns:
            `string [count]` and `int64 [count]`; after the last record of the split, any of them.
        """

    def view(self, index: tf.Tensor, make: Make) -> tuple[tf.Tensor, ...]:
        """Return `make(index)`, or that of a following record instead of a damaged one."""

    def first_damaged(self, positions: Sequence[int], seed: int | None) -> DamagedRecord | None:
        """Return the first record that cannot be used, in the order of `positions`."""


@contextlib.contextmanager
def damage_named(records: Readable, positions: Sequence[int] | None = None) -> Iterator[None]:
    """Name the damaged record when the block fails by one.

    Args:
        records: The split.
        positions: What the block reads, in order; None if it is the whole split.

    Raises:
        DataError: A record is damaged.
    """
    try:
        yield
    except DAMAGE as error:
        damage = records.first_damaged(positions or range(records.num_examples), None)
        if damage is None:
            raise
        raise explain(error, records.folder, damage=damage) from error


class Records:
    """One split of a records folder, readable at any record.

    Up to `max_corrupt` records may fail their CRC or hold an image that cannot be decoded; `view`
    replaces each by the next one.
    """

    def __init__(self, folder: str, manifest: Manifest, split: str, max_corrupt: int = 0) -> None:
        self.folder = folder
        self._split = split
        self._max_corrupt = max_corrupt
        self._damaged: dict[int, DamagedRecord] = {}
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
        return self._parsed(self._record(index))

    def read_run(self, first: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the records from `first` (int64 scalar) on as `(jpegs, labels)`.

        They lie one after the other, so each costs a twentieth of what `read` costs. Their CRCs
        are checked.

        Returns:
            `string [count]` and `int64 [count]`; after the last record of the split, any of them.
        """
        first = tf.minimum(first, self.num_examples - 1)
        last = tf.minimum(first + count, self.num_examples) - 1
        shards = self._shard_index[first], self._shard_index[last]
        files = self._files[shards[0] : shards[1] + 1]
        # In every file after the first one, the run goes on at the beginning.
        starts = tf.concat(
            [self._offsets[first : first + 1], tf.zeros([shards[1] - shards[0]], tf.int64)], axis=0
        )
        run = self._from(files, starts).take(count).batch(count).get_single_element()
        jpegs, labels = self._parsed(run)
        present = tf.minimum(tf.range(count), tf.size(labels) - 1)
        return tf.gather(jpegs, present), tf.gather(labels, present)

    def _parsed(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `(jpegs, labels)` of serialised records of any shape."""
        features = tf.io.parse_example(
            records,
            {
                schema.ENCODED: tf.io.FixedLenFeature([], tf.string),
                schema.LABEL: tf.io.FixedLenFeature([], tf.int64),
            },
        )
        return features[schema.ENCODED], features[schema.LABEL]

    def view(self, index: tf.Tensor, make: Make) -> tuple[tf.Tensor, ...]:
        """Return `make(index)`, or that of the first sound record after a damaged one.

        The same record replaces a damaged one each time. Without an allowance, the error of
        `make` is raised.

        Args:
            index: A record, int64 scalar.
            make: Function from a record's index to tensors.
        """
        if not self._max_corrupt:
            return make(index)

        def attempt(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            candidate = (index + number) % self.num_examples
            before = (candidate - 1) % self.num_examples
            noted = tf.cond(number > 0, lambda: self._note_later(before), lambda: before)
            with tf.control_dependencies([noted]):
                return make(tf.identity(candidate))

        attempts = tf.data.Dataset.range(self._max_corrupt + 2).map(attempt)
        sound = attempts.ignore_errors(log_warning=False).take(1)
        made: tuple[tf.Tensor, ...] = sound.get_single_element()
        return made

    @property
    def corrupt(self) -> int:
        """Damaged records that this process has met and replaced, each counted once."""
        return len(self._damaged)

    def raise_if_too_many_corrupt(self) -> None:
        """Raise if more damaged records were met than allowed; the loop calls this regularly.

        Raises:
            DataError: More than `max_corrupt` records were replaced; the message names them.
        """
        if len(self._damaged) > self._max_corrupt:
            where = "; ".join(str(self._damaged[index]) for index in sorted(self._damaged))
            raise DataError(
                f"{len(self._damaged)} corrupt records, more than the {self._max_corrupt} that "
                f"training.max_corrupt_records allows: {where}"
            )

    def first_damaged(
        self, positions: Sequence[int], seed: int | None = None
    ) -> DamagedRecord | None:
        """Return the first record that cannot be used, in the order of `positions`.

        Every image is decoded as a whole, on all cores.

        Args:
            positions: Positions in the endless stream of `seed`, or in the split.
            seed: Seed of the stream; None for the split in its own order.
        """

        def sound(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            index = position
            if seed is not None:
                index = epoch_order(position, self.num_examples, seed)
            pixels = tf.io.decode_jpeg(self.read(index)[0], channels=3)
            return position, tf.reduce_max(pixels)  # unused, it would not be decoded

        decoded = tf.data.Dataset.from_tensor_slices(tf.constant(positions, tf.int64)).map(
            sound, num_parallel_calls=PARALLEL_CALLS, deterministic=True
        )
        found = untuned(decoded).ignore_errors(log_warning=False).as_numpy_iterator()
        for position, decodable in zip_longest(positions, found):
            if decodable is None or position != decodable[0]:
                index = tf.constant(position, tf.int64)
                if seed is not None:
                    index = epoch_order(index, self.num_examples, seed)
                return self.damage_of(int(index))
        return None

    def damage_of(self, index: int) -> DamagedRecord | None:
        """Return what makes record `index` unusable; None if nothing does."""
        file = self._files[int(self._shard_index[index])].numpy().decode()
        place = f"{file} at byte {int(self._offsets[index])}"
        key = None
        try:
            record = self._record(tf.constant(index, tf.int64))
            key = self._key(record)
            tf.io.decode_jpeg(self._parsed(record)[0], channels=3)
        except DAMAGE as error:
            return DamagedRecord(place=place, key=key, reason=reason_of(error))
        return None

    def _record(self, index: tf.Tensor) -> tf.Tensor:
        """Return the serialised record at `index`, scalar string."""
        files = [self._files[self._shard_index[index]]]
        return self._from(files, [self._offsets[index]]).take(1).get_single_element()

    def _from(self, files: tf.Tensor, starts: tf.Tensor) -> tf.data.Dataset:
        """Return the serialised records of each file from a byte on, one file after the other."""
        return tf.data.experimental.from_variant(
            tf.raw_ops.TFRecordDatasetV2(
                filenames=files,
                compression_type="",
                buffer_size=READ_BUFFER_BYTES,
                byte_offsets=starts,
            ),
            tf.TensorSpec([], tf.string),
        )

    def _key(self, record: tf.Tensor) -> str:
        names = (schema.SYNSET, schema.FILENAME)
        features: dict[str, Any] = tf.io.parse_single_example(
            record, {name: tf.io.FixedLenFeature([], tf.string, "") for name in names}
        )
        synset, filename = (features[name].numpy().decode(errors="replace") for name in names)
        return f"{self._split}/{synset}/{filename}"

    def _note_later(self, index: tf.Tensor) -> tf.Tensor:
        """Return `index`, and note the damage of its record when the graph runs."""

        def note(damaged: Any) -> Any:
            # An error of another kind, for example of the network, is no damage.
            if int(damaged) not in self._damaged and (damage := self.damage_of(int(damaged))):
                self._damaged[int(damaged)] = damage
                logger.warning("train: replaced by the next record: %s", damage)
            return damaged

        noted = tf.numpy_function(note, [index], tf.int64, stateful=True)
        noted.set_shape([])
        return noted


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
