"""Statistics of the images of a shard, counted while it is written, and of the whole dataset.

Those of a shard take a few kilobytes and eight bytes per image, so each shard's report carries
its own, and memory does not grow with the number of images when they are merged.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from preprocessing.records.duplicates import Digests, KeyAt
from preprocessing.records.schema import BINS_PER_OCTAVE, SPLITS, SplitStatistics, Statistics


@dataclass(kw_only=True, slots=True)
class ShardStatistics:
    """Counts over the records of one shard.

    Attributes:
        digests: XXH3-64 of each source file, 8 bytes each, in record order.
        labels: Number of records by label.
        source_bytes: Number of files by size in bytes; the keys are numbers of bins (`bin_of`).
        short_sides: Number of records by shorter side in pixels; the keys are numbers of bins.
        most_pixels: Height x width of the largest image.
        boxes: Number of bounding boxes.
        oriented: Number of source files whose EXIF orientation is not upright.
    """

    digests: bytearray = field(default_factory=bytearray)
    labels: Counter[int] = field(default_factory=Counter)
    source_bytes: Counter[int] = field(default_factory=Counter)
    short_sides: Counter[int] = field(default_factory=Counter)
    most_pixels: int = 0
    boxes: int = 0
    oriented: int = 0

    def add(
        self,
        content: bytes,
        *,
        height: int,
        width: int,
        label: int,
        boxes: int,
        is_oriented: bool = False,
        digest: bytes = b"",
    ) -> None:
        """Count one record.

        Args:
            content: The source file, before any repair.
            height: Height in pixels, as in the record.
            width: Width in pixels, as in the record.
            label: The label, 1..N.
            boxes: Number of bounding boxes.
            is_oriented: Whether the source file's EXIF orientation is not upright.
            digest: XXH3-64 of `content`, where it is known already.
        """
        self.digests += digest or xxhash.xxh3_64_digest(content)
        self.labels[label] += 1
        self.source_bytes[bin_of(len(content))] += 1
        self.short_sides[bin_of(min(height, width))] += 1
        self.most_pixels = max(self.most_pixels, height * width)
        self.boxes += boxes
        self.oriented += is_oriented

    def to_json(self) -> dict[str, Any]:
        """Return the form for the shard's report; the same records give the same JSON."""
        return {
            "digests": base64.b64encode(self.digests).decode(),
            "labels": _sorted(self.labels),
            "source_bytes": _sorted(self.source_bytes),
            "short_sides": _sorted(self.short_sides),
            "most_pixels": self.most_pixels,
            "boxes": self.boxes,
            "oriented": self.oriented,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ShardStatistics:
        """Return what `to_json` wrote."""
        return cls(
            digests=bytearray(base64.b64decode(fields["digests"])),
            labels=_counter(fields["labels"]),
            source_bytes=_counter(fields["source_bytes"]),
            short_sides=_counter(fields["short_sides"]),
            most_pixels=fields["most_pixels"],
            boxes=fields["boxes"],
            oriented=fields["oriented"],
        )


def bin_of(value: int) -> int:
    """Return the number of the logarithmic bin of `value`; `edge_of` gives its lower edge."""
    return math.floor(BINS_PER_OCTAVE * math.log2(value))


def edge_of(number: int) -> int:
    """Return the smallest whole number in bin `number`."""
    return math.ceil(round(2 ** (number / BINS_PER_OCTAVE), 9))


def _sorted(counts: Counter[int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}


def _counter(counts: dict[str, int]) -> Counter[int]:
    return Counter({int(key): count for key, count in counts.items()})


class DatasetStatistics:
    """Counts over the records of a whole dataset, shard after shard."""

    def __init__(self) -> None:
        self._splits = {split: ShardStatistics() for split in SPLITS}  # without digests
        self._digests = Digests()

    def add(self, split: str, shard: ShardStatistics) -> None:
        """Count the next shard of a split."""
        self._digests.add(split, bytes(shard.digests))
        total = self._splits[split]
        total.labels.update(shard.labels)
        total.source_bytes.update(shard.source_bytes)
        total.short_sides.update(shard.short_sides)
        total.most_pixels = max(total.most_pixels, shard.most_pixels)
        total.boxes += shard.boxes
        total.oriented += shard.oriented

    def result(self, num_classes: int, key_at: KeyAt) -> Statistics:
        """Return the statistics as `dataset.json` carries them.

        Args:
            num_classes: Number of classes; labels are 1 to this.
            key_at: Function that names a record; called for the first groups of duplicates only.
        """
        return Statistics(
            train=_of_split(self._splits["train"], num_classes),
            validation=_of_split(self._splits["validation"], num_classes),
            duplicates=self._digests.duplicates(key_at),
        )


def merge(
    shards: Mapping[str, Sequence[ShardStatistics]], num_classes: int, key_at: KeyAt
) -> Statistics:
    """Return the statistics of a whole dataset from those of the shards of each split, in order."""
    merged = DatasetStatistics()
    for split in SPLITS:
        for shard in shards[split]:
            merged.add(split, shard)
    return merged.result(num_classes, key_at)


def _of_split(counts: ShardStatistics, num_classes: int) -> SplitStatistics:
    return SplitStatistics(
        class_counts=tuple(counts.labels[label] for label in range(1, num_classes + 1)),
        source_bytes=_with_edges(counts.source_bytes),
        short_sides=_with_edges(counts.short_sides),
        most_pixels=counts.most_pixels,
        boxes=counts.boxes,
        oriented=counts.oriented,
    )


def _with_edges(counts: Counter[int]) -> tuple[tuple[int, int], ...]:
    return tuple((edge_of(number), counts[number]) for number in sorted(counts))
