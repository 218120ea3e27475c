"""The contract between ingest and training: the fields of a record and of a records folder.

A records folder holds `train-00000-of-00008 ...`, `validation-00000-of-00002 ...`,
`record_offsets.npz` and, written last, `dataset.json`. Without `dataset.json` it
is not complete and nothing reads it.

The record is the one of slim's `datasets/build_imagenet_data.py`; labels are 1..N in
sorted synset order, 0 is the background class and never present.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records.shard_names import ShardName, shard_name
from preprocessing.storage import contracts
from preprocessing.storage.contracts import ContractError, Sha256, WholeNumber

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

    index: WholeNumber
    synset: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One finished shard file: its name, examples, size in bytes and digest."""

    file: str
    examples: WholeNumber
    bytes: WholeNumber
    sha256: Sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """An image of the source that is not in the records, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitStatistics:
    """Counts over the records of one split.

    Attributes:
        class_counts: Records per class, label 1 first.
        source_bytes: Source files by size: `(lower edge in bytes, count)` of each bin.
        short_sides: Images by shorter side: `(lower edge in pixels, count)` of each bin.
        most_pixels: Height x width of the largest image.
        boxes: Number of bounding boxes.
        oriented: Number of source files whose EXIF orientation is not upright; None in records
            of earlier versions.
    """

    class_counts: tuple[WholeNumber, ...]
    source_bytes: tuple[tuple[WholeNumber, WholeNumber], ...]
    short_sides: tuple[tuple[WholeNumber, WholeNumber], ...]
    most_pixels: WholeNumber
    boxes: WholeNumber
    oriented: WholeNumber | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Source files with the same content.

    Attributes:
        train: Training files that repeat an earlier one.
        validation: Validation files that repeat an earlier one.
        between: Validation files that are also in the training set.
        named: Keys of the first groups of equal files.
    """

    train: WholeNumber
    validation: WholeNumber
    between: WholeNumber
    named: tuple[tuple[str, ...], ...]

    def counts(self) -> dict[str, int]:
        """Return the three counts by name."""
        return {"train": self.train, "validation": self.validation, "between": self.between}


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Counts of both splits, and the duplicates in and between them."""

    train: SplitStatistics
    validation: SplitStatistics
    duplicates: Duplicates

    def of(self, split: str) -> SplitStatistics:
        """Return the statistics of the split `train` or `validation`."""
        return {"train": self.train, "validation": self.validation}[split]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """`dataset.json`.

    Attributes:
        digest: SHA-256 over classes and shard digests: equal digests mean equal records.
        fingerprint: SHA-256 over classes, keys, labels, boxes and options: with equal
            fingerprints, another run writes the same records unless an image's bytes changed.
        shards: The shards of each split, in order.
        repaired: Number of re-encoded images, by their original kind.
        record_offsets: SHA-256 of `record_offsets.npz`.
        statistics: Class counts, sizes and duplicates.
        source: Description of the source, from its layout.
        options: Options of `prepare` that decide the records.
        versions: Versions of the packages that wrote the records.
    """

    schema_version: WholeNumber
    digest: Sha256
    fingerprint: Sha256
    classes: tuple[ImageClass, ...]
    shards: dict[str, tuple[Shard, ...]]
    rejects: tuple[Reject, ...]
    repaired: dict[str, WholeNumber]
    record_offsets: Sha256
    statistics: Statistics
    source: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]

    def num_examples(self, split: str) -> int:
        """Return the exact number of records in `split`."""
        return sum(shard.examples for shard in self.shards[split])

    def write(self, records: str) -> None:
        """Write `dataset.json`; from here on the folder is complete."""
        storage.write_json(storage.join(records, MANIFEST), contracts.to_json(self))

    @classmethod
    def read(cls, records: str) -> Manifest:
        """Read the manifest of a complete records folder.

        A manifest comes from a bucket or a disk that others write to, and its file names become
        paths, so nothing of it is used before it was checked.

        Raises:
            UsageError: The folder has no `dataset.json`.
            DataError: The file is damaged or has another schema version.
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
                f"{path} does not have schema version {SCHEMA_VERSION}; "
                "write the records again with `mobilenet prepare --overwrite`"
            )
        try:
            manifest = contracts.from_json(cls, fields, MANIFEST)
            manifest._check_consistency()
        except ContractError as error:
            raise DataError(
                f"{path} is damaged: {error}; write the records again with "
                "`mobilenet prepare --overwrite`"
            ) from None
        return manifest

    def _check_consistency(self) -> None:
        """Raise ContractError for the first place that contradicts the rest."""
        labels = [image_class.index for image_class in self.classes]
        if labels != list(range(1, len(labels) + 1)):
            raise ContractError(f"{MANIFEST}.classes are not numbered 1, 2, ...")
        if self.shards.keys() != set(SPLITS):
            raise ContractError(f"{MANIFEST}.shards are not those of {' and '.join(SPLITS)}")
        for split in SPLITS:
            shards = self.shards[split]
            for number, shard in enumerate(shards):
                if ShardName.parse(shard.file) != ShardName(split, number, len(shards)):
                    expected = shard_name(split, number, len(shards))
                    raise ContractError(
                        f"{MANIFEST}.shards.{split}[{number}].file is {shard.file!r:.60}, "
                        f"expected a name such as {expected!r}"
                    )
            counts = self.statistics.of(split).class_counts
            if len(counts) != len(labels) or sum(counts) != self.num_examples(split):
                raise ContractError(f"{MANIFEST}.statistics.{split} contradicts its shards")


def records_digest(classes: tuple[ImageClass, ...], shards: Mapping[str, tuple[Shard, ...]]) -> str:
    """Return `Manifest.digest`: equal when and only when classes and records are equal."""
    return storage.digest_of(
        [
            [[named.index, named.synset, named.text] for named in classes],
            {split: [shard.sha256 for shard in written] for split, written in shards.items()},
        ]
    )


def write_record_offsets(records: str, offsets: Mapping[str, Iterable[np.ndarray]]) -> str:
    """Write `record_offsets.npz`: the byte offset of every record, in shard order.

    The file is that of `np.savez`, which would need whole arrays.

    Args:
        records: Folder to write into.
        offsets: Per split the `int64` offsets in parts, which are iterated twice.

    Returns:
        SHA-256 of the file.
    """
    path = storage.join(records, RECORD_OFFSETS)
    with storage.open_write(path) as stream, zipfile.ZipFile(stream, "w") as packed:
        for split, parts in offsets.items():
            header = {
                "descr": "<i8",
                "fortran_order": False,
                "shape": (sum(len(part) for part in parts),),
            }
            with packed.open(f"{split}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for part in parts:
                    member.write(part.astype("<i8").tobytes())
    return storage.digest_of_file(path)


def read_record_offsets(records: str, manifest: Manifest, split: str) -> tuple[Any, Any]:
    """Return the places where the records of `split` start.

    Returns:
        `(shard_index, offset)`, two `int64 [num_examples]` arrays in shard order.

    Raises:
        DataError: The file is missing or does not belong to the manifest.
    """
    path = storage.join(records, RECORD_OFFSETS)
    if not storage.exists(path) or storage.digest_of_file(path) != manifest.record_offsets:
        raise DataError(
            f"{path} is missing or not the one that {MANIFEST} belongs to; "
            "write the records again with `mobilenet prepare --overwrite`"
        )
    offsets = np.load(io.BytesIO(storage.read_bytes(path)))[split]
    examples = [shard.examples for shard in manifest.shards[split]]
    counts = np.asarray(examples, np.int64)
    return np.repeat(np.arange(len(examples), dtype=np.int64), counts), offsets
