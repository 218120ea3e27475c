"""Images per second of the training input, done in our way and in others, in one run.

    python -m benchmarks.input [--images 256] [--rounds 5]

On a machine that others use, too, only the CPU time per image counts. The ratios are ratios of
CPU time: medians over rounds, in each of which every way runs once. The JPEGs have about 100 KB
and 4:2:0 chroma.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf
from PIL import Image

from benchmarks.jpegs import make_jpegs
from benchmarks.records import write_records
from preprocessing.records import schema
from preprocessing.records.schema import Manifest
from tests.training.input import simple_inception
from training.config import AugmentationConfig
from training.input.data import Share, finished, training_batches
from training.input.inception import crop, distort, sample_crop
from training.input.records import Records, epoch_order

SIZE = 224
BATCH = 32
NUM_CLASSES = 10
SHORT_SIDE = 256  # of records that ingest has resized
LOOK_SECONDS, QUIET_LOOKS = 0.1, 3
CORES = len(os.sched_getaffinity(0))
BARS = {
    "original / ours": 1.4,
    "plain decode / ours": 0.9,
    "original / ours, pre-resized": 3.0,
}


def main() -> None:
    """Measure, print a table on stderr and ratios as JSON on stdout."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=256, help="per way and round")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    jpegs = make_jpegs(64)
    with tempfile.TemporaryDirectory() as folder:
        full = _write_records(f"{folder}/full", jpegs)
        small = _write_records(f"{folder}/small", [_shrink(jpeg) for jpeg in jpegs])
        ways = _ways(f"{folder}/full", full, f"{folder}/small", small, jpegs)
        milliseconds = _measure(ways, options.images, options.rounds)
    _report(milliseconds)


def _write_records(folder: str, jpegs: list[bytes]) -> Manifest:
    labelled = [(jpeg, 1 + number % NUM_CLASSES) for number, jpeg in enumerate(jpegs * 8)]
    splits = {"train": labelled, "validation": labelled[:1]}
    return write_records(folder, splits, NUM_CLASSES)


def _ways(
    full_folder: str, full: Manifest, small_folder: str, small: Manifest, jpegs: list[bytes]
) -> dict[str, Iterable[Any]]:
    """Return an endless stream of batches for each name; taking a batch does its work."""
    config, rounded = AugmentationConfig(), AugmentationConfig(pixels="uint8")
    fused = tf.function(distort, jit_compile=True)  # as the training step runs it
    full_records = Records(full_folder, full, "train")
    small_records = Records(small_folder, small, "train")

    def ours(records: Records, augmentation: AugmentationConfig) -> tf.data.Dataset:
        return training_batches(
            records,
            augmentation,
            size=SIZE,
            seed=0,
            batch_per_replica=BATCH,
            share=Share(worker_index=0, num_workers=1, local_replicas=1),
            start_step=0,
        )

    def with_step(batches: tf.data.Dataset) -> Iterable[Any]:
        return (fused(pixels, draws) for pixels, draws, _ in batches)

    def stage(example: Callable[[Any], Any]) -> tf.data.Dataset:
        positions = tf.data.Dataset.counter()
        return _batched(positions.map(example, num_parallel_calls=tf.data.AUTOTUNE))

    def index(position: Any) -> Any:
        return epoch_order(position, full_records.num_examples, 0)

    def seed(position: Any) -> Any:
        return tf.stack([tf.constant(0, tf.int64), position])

    def cropped(position: Any) -> Any:
        jpeg, _ = full_records.read(index(position))
        shape = tf.io.extract_jpeg_shape(jpeg)
        begin, extent = sample_crop(shape, config, seed(position))
        window = tf.concat([begin[:2], extent[:2]], axis=0)
        return tf.shape(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3))

    sequential = _sequential(full_folder, full)
    original = _batched(
        sequential.enumerate().map(
            lambda i, jpeg: simple_inception.train_view(jpeg, config, SIZE, seed(i)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    )
    plain = _batched(
        sequential.map(
            lambda jpeg: tf.shape(tf.io.decode_jpeg(jpeg, channels=3)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    )
    return {
        "original": original,
        "plain decode": plain,
        "libjpeg-turbo threads": _turbo(jpegs),
        "ours": ours(full_records, config),
        "ours, uint8": ours(full_records, rounded),
        "ours, and its part of the step": with_step(ours(full_records, config)),
        "ours, distorted on the host": finished(ours(full_records, config)),
        "ours, pre-resized": ours(small_records, config),
        "ours, pre-resized, and its part of the step": with_step(ours(small_records, config)),
        "  of which order": stage(index),
        "  ... and read": stage(lambda p: tf.strings.length(full_records.read(index(p))[0])),
        "  ... and decode the crop": stage(cropped),
        "  ... and resize, draw": stage(
            lambda p: crop(full_records.read(index(p))[0], config, SIZE, seed(p))
        ),
    }


def _sequential(folder: str, manifest: Manifest) -> tf.data.Dataset:
    """Return JPEGs as most programs read them: parsed, shard after shard, endlessly."""
    feature = {schema.ENCODED: tf.io.FixedLenFeature([], tf.string)}
    files = [f"{folder}/{shard.file}" for shard in manifest.shards["train"]]
    return (
        tf.data.TFRecordDataset(files, num_parallel_reads=2)
        .repeat()
        .map(
            lambda record: tf.io.parse_single_example(record, feature)[schema.ENCODED],
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    )


def _batched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    return dataset.batch(BATCH, drop_remainder=True).prefetch(4)


def _turbo(jpegs: list[bytes]) -> Iterable[Any]:
    """Decode whole images from memory with libjpeg-turbo (through Pillow), one thread per core."""

    def decode(number: int) -> int:
        with Image.open(io.BytesIO(jpegs[number % len(jpegs)])) as image:
            image.load()
            return image.width

    with ThreadPoolExecutor(CORES) as pool:
        for batch in itertools.count():
            yield list(pool.map(decode, range(batch * BATCH, (batch + 1) * BATCH)))


def _shrink(jpeg: bytes) -> bytes:
    """Return the same image with a short side of 256 pixels, as ingest can write it."""
    image = Image.open(io.BytesIO(jpeg))
    scale = SHORT_SIDE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    stream = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _measure(ways: dict[str, Iterable[Any]], images: int, rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds per image by way and round, after a round that warms up."""
    iterators = {name: iter(way) for name, way in ways.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    batches = max(1, images // BATCH)
    for number in range(rounds + 1):
        for name, iterator in iterators.items():
            since = time.process_time()
            for _ in range(batches):
                next(iterator)
            _wait_for_buffers()
            spent = (time.process_time() - since) * 1000 / (batches * BATCH)
            if number:
                milliseconds[name].append(spent)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return milliseconds


def _wait_for_buffers() -> None:
    """Wait until nothing is computed ahead, so that buffers are as full as at the start."""
    quiet = 0
    while quiet < QUIET_LOOKS:
        before = time.process_time()
        time.sleep(LOOK_SECONDS)
        quiet = quiet + 1 if time.process_time() - before < LOOK_SECONDS / 50 else 0


def _report(milliseconds: dict[str, list[float]]) -> None:
    middle = {name: statistics.median(samples) for name, samples in milliseconds.items()}
    print(f"{'':46}{'CPU ms':>8}{f'images/s on {CORES} cores':>24}", file=sys.stderr)
    for name, spent in middle.items():
        print(f"{name:46}{spent:8.3f}{CORES * 1000 / spent:24.0f}", file=sys.stderr)

    def ratio(way: str, to: str) -> float:
        pairs = zip(milliseconds[to], milliseconds[way], strict=True)
        return round(statistics.median(slow / fast for slow, fast in pairs), 2)

    print(
        json.dumps(
            {
                "original / ours": ratio("ours", "original"),
                "original / ours and its part of the step": ratio(
                    "ours, and its part of the step", "original"
                ),
                "plain decode / ours": ratio("ours", "plain decode"),
                "libjpeg-turbo / ours": ratio("ours", "libjpeg-turbo threads"),
                "original / ours, pre-resized": ratio("ours, pre-resized", "original"),
                "original / ours, pre-resized, and its part of the step": ratio(
                    "ours, pre-resized, and its part of the step", "original"
                ),
                "bars": BARS,
            }
        )
    )


if __name__ == "__main__":
    main()
