"""Records folders for the benchmarks: given JPEGs in the published schema, without `prepare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from preprocessing import storage
from preprocessing.images import jpeg
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import ImageClass, Manifest, Shard
from preprocessing.records.statistics import ShardStatistics, merge

RECORDS_PER_SHARD = 256
Labelled = Sequence[tuple[bytes, int]]  # JPEG and label, 1..N


def write_records(folder: str, splits: Mapping[str, Labelled], num_classes: int) -> Manifest:
    """Write the images of both splits in the given order, 256 to a shard, and the manifest."""
    storage.make_folder(folder)
    shards: dict[str, tuple[Shard, ...]] = {}
    offsets: dict[str, list[np.ndarray]] = {}
    statistics: dict[str, list[ShardStatistics]] = {}
    for split, images in splits.items():
        starts = range(0, len(images), RECORDS_PER_SHARD)
        written = [
            _write_shard(
                storage.join(folder, schema.shard_name(split, index, len(starts))),
                images[start : start + RECORDS_PER_SHARD],
            )
            for index, start in enumerate(starts)
        ]
        columns = zip(*written, strict=True)
        shards[split], offsets[split], statistics[split] = (
            tuple(next(columns)),
            *map(list, columns),
        )
    classes = tuple(
        ImageClass(index=index, synset=f"n999{index:05d}", text=f"class {index}")
        for index in range(1, num_classes + 1)
    )
    digest = schema.records_digest(classes, shards)
    manifest = Manifest(
        schema_version=schema.SCHEMA_VERSION,
        digest=digest,
        fingerprint=digest,
        classes=classes,
        shards=shards,
        rejects=(),
        repaired={},
        record_offsets=schema.write_record_offsets(folder, offsets),
        statistics=merge(statistics, num_classes, lambda split, shard, place: f"{split} {place}"),
        source={},
        options={},
        versions={},
    )
    manifest.write(folder)
    return manifest


def _write_shard(path: str, images: Labelled) -> tuple[Shard, np.ndarray, ShardStatistics]:
    statistics = ShardStatistics()
    framed = []
    for content, label in images:
        header = jpeg.read_header(content)
        statistics.add(content, height=header.height, width=header.width, label=label, boxes=0)
        features: dict[str, list[Any]] = {schema.ENCODED: [content], schema.LABEL: [label]}
        framed.append(tfrecord.record(features))
    content = b"".join(framed)
    storage.write_bytes(path, content)
    shard = Shard(
        file=path.rsplit("/", 1)[-1],
        examples=len(images),
        bytes=len(content),
        sha256=storage.digest_of_file(path),
    )
    return shard, np.cumsum([0, *map(len, framed)])[:-1].astype(np.int64), statistics
