"""Contestants of `benchmarks/ingest.py`; each prints its wall and processor seconds."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from preprocessing.images import jpeg
from preprocessing.images.reader import read_images
from preprocessing.records import schema, tfrecord
from preprocessing.sources import archives
from preprocessing.sources.references import ImageReference
from preprocessing.sources.registry import find_source


class Clock:
    """Wall and processor seconds of this process and its ended children since construction."""

    def __init__(self) -> None:
        self._started = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), sum(os.times()[:4])

    def seconds(self) -> tuple[float, float]:
        """Return the wall seconds and the processor seconds."""
        wall, core = self._now()
        return wall - self._started[0], core - self._started[1]


Seconds = tuple[float, float]


def members(source: str) -> Iterator[tuple[str, bytes]]:
    """Yield the synset and bytes of every training image, with Python's tarfile."""
    with tarfile.open(os.path.join(source, archives.TRAIN_ARCHIVE)) as outer:
        for member in outer:
            stream = outer.extractfile(member)
            with tarfile.open(fileobj=stream, mode="r:") as inner:
                for image in inner:
                    content = inner.extractfile(image)
                    assert content
                    yield member.name[:-4], content.read()


def features(synset: str, content: bytes, height: int = 375, width: int = 500) -> dict[str, Any]:
    """Return the features of one record of the published schema."""
    empty: dict[str, Any] = {
        name: []
        for name in (
            *(schema.BBOX_XMIN, schema.BBOX_XMAX, schema.BBOX_YMIN, schema.BBOX_YMAX),
            schema.BBOX_LABEL,
        )
    }
    return {
        **empty,
        schema.HEIGHT: [height],
        schema.WIDTH: [width],
        schema.COLORSPACE: [b"RGB"],
        schema.CHANNELS: [3],
        schema.LABEL: [1],
        schema.SYNSET: [synset.encode()],
        schema.TEXT: [synset.encode()],
        schema.FORMAT: [b"JPEG"],
        schema.FILENAME: [b"image.JPEG"],
        schema.ENCODED: [content],
    }


def bare(source: str, out: str, num_images: int, *, sha256: bool = False) -> Seconds:
    """Copy the images to shards in one loop in one process."""
    digest = hashlib.sha256()
    num_written = 0
    clock = Clock()
    images = islice(members(source), num_images)
    while batch := list(islice(images, 1000)):
        with open(os.path.join(out, f"train-{num_written}"), "wb") as shard:
            for synset, content in batch:
                record = tfrecord.record(features(synset, content))
                shard.write(record)
                if sha256:
                    digest.update(record)
                num_written += 1
            if sha256:
                shard.flush()
                os.fsync(shard.fileno())
    assert num_written == num_images
    return clock.seconds()


def decode(source: str, out: str, num_images: int, *, gray: bool = False) -> Seconds:
    """Decode to RGB with libjpeg-turbo and nothing else, on all cores."""
    cores = len(os.sched_getaffinity(0))
    images = [content for _, content in islice(members(source), 64)]
    clock = Clock()
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        pool.map(_decode_some, [(images, num_images // cores, gray)] * cores)
        pool.close()
        pool.join()
    return clock.seconds()


def _decode_some(task: tuple[list[bytes], int, bool]) -> None:
    import simplejpeg

    images, count, gray = task
    options: dict[str, Any] = {"colorspace": "RGB"}
    if gray:  # the call that `--decode-check` makes: all coefficients, no colour arithmetic
        options = {"colorspace": "GRAY", "fastdct": True, "fastupsample": True, "strict": True}
    for number in range(count):
        simplejpeg.decode_jpeg(images[number % len(images)], **options)


def original(source: str, out: str, num_images: int) -> Seconds:
    """Imitate slim's build_imagenet_data.py: two threads decode their images to learn the sizes."""
    import tensorflow as tf

    images = list(islice(members(source), num_images))
    decoder = tf.function(
        lambda content: tf.image.decode_jpeg(content, channels=3),
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    decoder(images[0][1])

    def work(half: list[tuple[str, bytes]], path: str) -> None:
        with tf.io.TFRecordWriter(path) as writer:
            for synset, content in half:
                height, width, _ = decoder(content).shape
                writer.write(tfrecord.serialize(features(synset, content, height, width)))

    threads = [
        threading.Thread(target=work, args=(images[start::2], os.path.join(out, f"train-{start}")))
        for start in range(2)
    ]
    clock = Clock()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clock.seconds()


def _serialise(reference: ImageReference) -> bytes:
    with open(reference.path, "rb") as stream:
        stream.seek(reference.offset)
        return tfrecord.serialize(features("n00000000", stream.read(reference.size)))


def naive_beam(source: str, out: str, num_images: int) -> Seconds:
    """Run Beam with one image per element and Beam's own sink."""
    import apache_beam as beam
    from apache_beam.io import WriteToTFRecord
    from apache_beam.options.pipeline_options import PipelineOptions

    references = list(islice(find_source(source).images("train"), num_images))
    clock = Clock()
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | beam.Create(references)
            | beam.Map(_serialise)
            | WriteToTFRecord(os.path.join(out, "train"), num_shards=8)
        )
    return clock.seconds()


def parts(source: str, out: str, num_images: int) -> dict[str, int]:
    """Return the core microseconds per image of each part of our work, measured alone."""
    references = list(islice(find_source(source).images("train"), num_images))
    contents = [content for _, content in read_images(references) if isinstance(content, bytes)]
    records = [tfrecord.record(features("n00000000", content)) for content in contents]

    def microseconds(work: Any) -> int:
        started = time.process_time()
        work()
        return round((time.process_time() - started) / num_images * 1e6)

    def write() -> None:
        with open(os.path.join(out, "parts"), "wb") as shard:
            for record in records:
                shard.write(record)

    def hash_all() -> None:
        digest = hashlib.sha256()
        for record in records:
            digest.update(record)

    return {
        "list": microseconds(lambda: list(islice(find_source(source).images("train"), num_images))),
        "read": microseconds(lambda: deque(read_images(references), maxlen=0)),
        "header and trailer": microseconds(
            lambda: [jpeg.is_complete(content, jpeg.read_header(content)) for content in contents]
        ),
        "serialise and CRC-32C": microseconds(
            lambda: [len(tfrecord.record(features("n00000000", content))) for content in contents]
        ),
        "SHA-256": microseconds(hash_all),
        "write": microseconds(write),
    }


def main() -> None:
    """Run the contestant that the command line names."""
    name, source, out, num_images = sys.argv[1:]
    if name == "parts":
        print(json.dumps(parts(source, out, int(num_images))))
        return
    contestants: dict[str, Callable[[str, str, int], Seconds]] = {
        "bare": bare,
        "bare_sha256": partial(bare, sha256=True),
        "decode": decode,
        "decode_gray": partial(decode, gray=True),
        "original": original,
        "naive_beam": naive_beam,
    }
    print(json.dumps(contestants[name](source, out, int(num_images))))


if __name__ == "__main__":
    main()
