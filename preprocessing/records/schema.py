"""The contract between ingest and training: what a record holds and what a records folder holds.

A records folder holds `train-00000-of-00008 ...`, `validation-00000-of-00002 ...`,
`record_offsets.npz` and, written last, `dataset.json`. Without `dataset.json` it
is not complete and nothing reads it.

The record is the one of slim's `datasets/build_imagenet_data.py`; labels are 1..N in
sorted synset order, 0 is the background class and never present.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records.manifest_validation import FormError, check_manifest

SCHEMA_VERSION = 1
MANIFEST = "dataset.json"
RECORD_OFFSETS = "record_offsets.npz"
SPLITS = ("train", "validation")
BINS_PER_OCTAVE = 4  # of the size histograms in the manifest's statistics

# slim's datasets/build_imagenet_data.py, _convert_to_example
HEIGHT = "image/height"
WIDTH = "image/width"
COLORSPACE = "image/colorspace"
CHANNELS = "image/channels"
LABEL = "image/class/label"
SYNSET = "image/class/synset"
TEXT = "image/class/text"
BBOX_XMIN = "image/object/bbox/xmin"
BBOX_XMAX = "image/object/bbox/xmax"
BBOX_YMIN = "image/object/bbox/ymin"
BBOX_YMAX = "image/object/bbox/ymax"
BBOX_LABEL = "image/object/bbox/label"
FORMAT = "image/format"
FILENAME = "image/filename"
ENCODED = "image/encoded"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageClass:
    """One class: `index` is the label in the records, 1..N."""

    index: int
    synset: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One finished shard file."""

    file: str
    examples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """An image that is in the source and not in the records, and why."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """`dataset.json`.

    Attributes:
        digest: SHA-256 over classes and shard digests: equal digests mean equal records.
        fingerprint: SHA-256 over source listing and options: equal fingerprints
            mean that a rerun would write the same records.
        repaired: How many images were re-encoded, by what they were.
        record_offsets: SHA-256 of `record_offsets.npz`.
        statistics: Class counts, sizes and duplicates, as `records.statistics` merges them.
    """

    schema_version: int
    digest: str
    fingerprint: str
    classes: tuple[ImageClass, ...]
    shards: dict[str, tuple[Shard, ...]]
    rejects: tuple[Reject, ...]
    repaired: dict[str, int]
    record_offsets: str
    statistics: dict[str, Any]
    source: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]

    def num_examples(self, split: str) -> int:
        """Exact number of records in `split`."""
        return sum(shard.examples for shard in self.shards[split])

    def write(self, records: str) -> None:
        """Write `dataset.json`; from here on the folder is complete."""
        storage.write_json(storage.join(records, MANIFEST), dataclasses.asdict(self))

    @classmethod
    def read(cls, records: str) -> Manifest:
        """Read the manifest of a complete records folder.

        Raises:
            UsageError: There is no `dataset.json`.
            DataError: It is of another schema version or not ours.
        """
        path = storage.join(records, MANIFEST)
        if not storage.exists(path):
            raise UsageError(
                f"{records} has no {MANIFEST}, so it is not a complete records folder; "
                f"make one with `mobilenet prepare --source ... --records {records}`"
            )
        fields = storage.read_json(path)
        if not isinstance(fields, dict) or fields.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{path} is not of schema version {SCHEMA_VERSION}; "
                "write the records anew with `mobilenet prepare --overwrite`"
            )
        try:
            check_manifest(fields, SPLITS)
        except FormError as error:
            raise DataError(f"{path} is damaged: {error}; write the records anew") from None
        return cls(
            **{
                **fields,
                "classes": tuple(ImageClass(**each) for each in fields["classes"]),
                "rejects": tuple(Reject(**each) for each in fields["rejects"]),
                "shards": {
                    split: tuple(Shard(**each) for each in shards)
                    for split, shards in fields["shards"].items()
                },
            }
        )


def records_digest(classes: tuple[ImageClass, ...], shards: Mapping[str, tuple[Shard, ...]]) -> str:
    """`Manifest.digest`: equal when and only when classes and records are equal."""
    return storage.digest_of(
        [
            [[each.index, each.synset, each.text] for each in classes],
            {split: [each.sha256 for each in written] for split, written in shards.items()},
        ]
    )


def shard_name(split: str, index: int, num_shards: int) -> str:
    """`train-00000-of-01024`, as the published datasets are named."""
    return f"{split}-{index:05d}-of-{num_shards:05d}"


def write_record_offsets(records: str, offsets: dict[str, list[np.ndarray]]) -> str:
    """Write `record_offsets.npz`: the byte offset of every record, in shard order.

    Args:
        records: Folder to write into.
        offsets: Per split and shard `int64 [examples]`.

    Returns:
        SHA-256 of the file.
    """
    path = storage.join(records, RECORD_OFFSETS)
    arrays: dict[str, Any] = {
        split: np.concatenate([np.zeros(0, np.int64), *shards]) for split, shards in offsets.items()
    }
    with storage.open_write(path) as stream:
        np.savez(stream, **arrays)
    return storage.digest_of_file(path)


def read_record_offsets(records: str, manifest: Manifest, split: str) -> tuple[Any, Any]:
    """Where every record of `split` starts.

    Returns:
        `(shard_index, offset)`, two `int64 [num_examples]` arrays in shard order.

    Raises:
        DataError: The file is missing or does not belong to the manifest.
    """
    path = storage.join(records, RECORD_OFFSETS)
    if not storage.exists(path) or storage.digest_of_file(path) != manifest.record_offsets:
        raise DataError(
            f"{path} is missing or not the one {MANIFEST} was written with; "
            "write the records anew with `mobilenet prepare --overwrite`"
        )
    offsets = np.load(io.BytesIO(storage.read_bytes(path)))[split]
    examples = [shard.examples for shard in manifest.shards[split]]
    return np.repeat(np.arange(len(examples), dtype=np.int64), examples), offsets
