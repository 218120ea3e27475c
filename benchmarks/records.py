"""Records folders for the benchmarks: given JPEGs in the published schema, without an ingest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from preprocessing import schema, storage, tfrecord
from preprocessing.schema import ImageClass, Manifest, Shard


def write_records(
    folder: str, jpegs: Sequence[bytes], *, num_classes: int = 10, records_per_shard: int = 256
) -> Manifest:
    """Write `jpegs` as the training split, the first of them as validation too."""
    shards: dict[str, tuple[Shard, ...]] = {}
    offsets: dict[str, list[list[int]]] = {}
    storage.make_folder(folder)
    for split, images in (("train", jpegs), ("validation", jpegs[:records_per_shard])):
        starts = range(0, len(images), records_per_shard)
        shards[split], offsets[split] = (), []
        for index, start in enumerate(starts):
            name = schema.shard_name(split, index, len(starts))
            records = [
                _record(jpeg, 1 + number % num_classes)
                for number, jpeg in enumerate(images[start : start + records_per_shard])
            ]
            content = b"".join(records)
            storage.write_bytes(storage.join(folder, name), content)
            shards[split] += (
                Shard(
                    file=name,
                    examples=len(records),
                    bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                ),
            )
            position, places = 0, []
            for record in records:
                places.append(position)
                position += len(record)
            offsets[split].append(places)
    packed = schema.encode_record_offsets(offsets)
    path = storage.join(folder, schema.RECORD_OFFSETS)
    storage.write_bytes(path, packed)
    manifest = Manifest(
        schema_version=schema.SCHEMA_VERSION,
        digest=storage.digest_of([each.sha256 for each in shards["train"]]),
        fingerprint="benchmark",
        classes=tuple(
            ImageClass(index=i, synset=f"n999{i:05d}", text=f"class {i}")
            for i in range(1, num_classes + 1)
        ),
        shards=shards,
        rejects=(),
        repaired={},
        record_offsets=storage.digest_of_file(path),
        source={},
        options={},
        versions={},
    )
    manifest.write(folder)
    return manifest


def _record(jpeg: bytes, label: int) -> bytes:
    return tfrecord.frame(tfrecord.serialize({schema.ENCODED: [jpeg], schema.LABEL: [label]}))
