"""The training stream is a function of (seed, step); evaluation sees every record once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import DataError
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import Manifest
from training.config import AugmentationConfig, EvaluationConfig
from training.input.data import (
    Share,
    evaluation_batches,
    evaluation_steps,
    finished,
    training_batches,
)
from training.input.records import Records, epoch_order

ALONE = Share(worker_index=0, num_workers=1, local_replicas=1)


@pytest.fixture(scope="module")
def validation(records: Path) -> Records:
    return Records(str(records), Manifest.read(str(records)), "validation")


def order_of(positions: range, count: int, seed: int) -> np.ndarray:
    indices = tf.data.Dataset.range(positions.start, positions.stop).map(
        lambda position: epoch_order(position, count, seed)
    )
    return np.array(list(indices.as_numpy_iterator()))


def labels_of(
    records: Records, share: Share, start_step: int, steps: int, batch: int
) -> np.ndarray:
    """Return the `[steps, local replicas, batch]` labels that this share reads."""
    batches = training_batches(
        records,
        AugmentationConfig(),
        size=32,
        seed=4,
        batch_per_replica=batch,
        share=share,
        start_step=start_step,
    ).take(steps * share.local_replicas)
    labels = np.stack([batch_labels for *_, batch_labels in batches.as_numpy_iterator()])
    return labels.reshape(steps, share.local_replicas, batch)


def test_every_record_can_be_read_at_its_place(records: Path) -> None:
    manifest = Manifest.read(str(records))
    readable = Records(str(records), manifest, "train")
    expected = []
    for shard in manifest.shards["train"]:
        with open(records / shard.file, "rb") as stream:
            for payload in tfrecord.read_records(stream, shard.file):
                record = tfrecord.parse(payload)
                expected.append((record[schema.ENCODED][0], record[schema.LABEL][0]))
    for index in [0, 1, 179, 180, 181, 700, 1436]:
        jpeg, label = readable.read(tf.constant(index, tf.int64))
        assert (jpeg.numpy(), int(label)) == expected[index]


@pytest.mark.parametrize("epoch", [0, 1, 1000])
def test_every_example_comes_exactly_once_per_epoch(epoch: int) -> None:
    count = 1437
    order = order_of(range(epoch * count, (epoch + 1) * count), count, seed=4)
    assert sorted(order.tolist()) == list(range(count))


def test_epochs_and_seeds_order_differently_and_without_pattern() -> None:
    count = 1437
    first, second = order_of(range(2 * count), count, seed=4).reshape(2, count)
    other = order_of(range(count), count, seed=5)
    for one, two in ((first, second), (first, other), (first, np.arange(count))):
        assert np.mean(one == two) < 0.01
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.1
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.1


def test_resuming_at_a_step_gives_the_rest_of_the_stream(validation: Records) -> None:
    """This holds across the end of an epoch too: 360 examples are 22.5 batches of 16."""
    whole = labels_of(validation, ALONE, 0, 30, 16)
    resumed = labels_of(validation, ALONE, 21, 9, 16)
    assert np.array_equal(whole[21:], resumed)


def test_the_views_also_resume(validation: Records) -> None:
    def images(start_step: int, steps: int) -> np.ndarray:
        batches = training_batches(
            validation,
            AugmentationConfig(),
            size=32,
            seed=4,
            batch_per_replica=8,
            share=ALONE,
            start_step=start_step,
        )
        batches = finished(batches).take(steps)
        return np.stack([batch_images for batch_images, _ in batches.as_numpy_iterator()])

    assert np.array_equal(images(0, 4)[2:], images(2, 2))


def test_the_number_of_workers_does_not_change_what_a_replica_sees(validation: Records) -> None:
    one_by_four = labels_of(validation, Share(0, 1, 4), 0, 6, 8)
    two_by_two = [labels_of(validation, Share(index, 2, 2), 0, 6, 8) for index in range(2)]
    four_by_one = [labels_of(validation, Share(index, 4, 1), 0, 6, 8) for index in range(4)]
    assert np.array_equal(one_by_four, np.concatenate(two_by_two, axis=1))
    assert np.array_equal(one_by_four, np.concatenate(four_by_one, axis=1))


@pytest.mark.parametrize(("num_workers", "local_replicas", "batch"), [(1, 1, 100), (2, 2, 7)])
def test_evaluation_weighs_every_record_once(
    validation: Records, num_workers: int, local_replicas: int, batch: int
) -> None:
    steps = evaluation_steps(360, num_workers * local_replicas * batch)
    seen: list[np.ndarray] = []
    for worker_index in range(num_workers):
        share = Share(worker_index, num_workers, local_replicas)
        batches = evaluation_batches(
            validation, EvaluationConfig(), size=32, batch_per_replica=batch, share=share
        )
        for _, labels, weights in batches.take(steps * local_replicas).as_numpy_iterator():
            seen.append(labels[weights > 0])
    expected = [int(validation.read(tf.constant(i, tf.int64))[1]) for i in range(360)]
    assert sorted(np.concatenate(seen).tolist()) == sorted(expected)


@pytest.mark.parametrize("count", [1, 7, 20])
def test_a_run_of_records_is_what_single_reads_give(validation: Records, count: int) -> None:
    num_examples = validation.num_examples
    single = [validation.read(tf.constant(index, tf.int64)) for index in range(num_examples)]
    for first in (0, num_examples // 2 - 3, num_examples - count):  # the second spans two shards
        jpegs, labels = validation.read_run(tf.constant(first, tf.int64), count)
        expected = single[first : first + count]
        assert jpegs.numpy().tolist() == [jpeg.numpy() for jpeg, _ in expected]
        assert labels.numpy().tolist() == [int(label) for _, label in expected]
    assert len(validation.read_run(tf.constant(num_examples - 1, tf.int64), count)[1]) == count
    assert len(validation.read_run(tf.constant(num_examples + 5, tf.int64), count)[1]) == count


def test_a_corrupt_record_is_noticed_not_trained_on(records: Path, tmp_path: Path) -> None:
    copied = tmp_path / "records"
    copied.mkdir()
    for path in filter(Path.is_file, records.iterdir()):
        (copied / path.name).write_bytes(path.read_bytes())
    shard = copied / "validation-00000-of-00002"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    damaged = Records(str(copied), Manifest.read(str(copied)), "validation")
    with pytest.raises(tf.errors.DataLossError):
        labels_of(damaged, ALONE, 0, 23, 16)


def test_offsets_of_other_records_are_refused(records: Path, tmp_path: Path) -> None:
    copied = tmp_path / "records"
    copied.mkdir()
    for path in filter(Path.is_file, records.iterdir()):
        (copied / path.name).write_bytes(path.read_bytes())
    first = [np.zeros(1, np.int64)]
    schema.write_record_offsets(str(copied), {"train": first, "validation": first})
    with pytest.raises(DataError, match=r"record_offsets\.npz is missing or not the one"):
        Records(str(copied), Manifest.read(str(copied)), "train")
