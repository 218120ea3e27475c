"""Statistics of the images of a shard, counted while it is written, and of the whole dataset.

Those of a shard take a few kilobytes and eight bytes per image, so each shard's report carries
its own and nothing is held for the whole dataset until `merge`.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from preprocessing.records.schema import (
    BINS_PER_OCTAVE,
    SPLITS,
    Duplicates,
    SplitStatistics,
    Statistics,
)

MAX_NAMED_GROUPS, MAX_NAMED_PER_GROUP = 100, 10  # duplicates whose keys the manifest lists
DIGEST_BYTES = 8

# The key of the image at: split, number of the shard in it, number of the record in the shard.
KeyAt = Callable[[str, int, int], str]


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


def merge(
    shards: Mapping[str, Sequence[ShardStatistics]], num_classes: int, key_at: KeyAt
) -> Statistics:
    """Return the statistics of a whole dataset, as `dataset.json` carries them.

    Args:
        shards: Statistics of the shards of each split, in order.
        num_classes: Number of classes; labels are 1 to this.
        key_at: Function that names a record; called for the first 100 groups of duplicates only.
    """
    return Statistics(
        train=_merge_split(shards["train"], num_classes),
        validation=_merge_split(shards["validation"], num_classes),
        duplicates=_duplicates(shards, key_at),
    )


def _merge_split(shards: Sequence[ShardStatistics], num_classes: int) -> SplitStatistics:
    labels: Counter[int] = Counter()
    source_bytes: Counter[int] = Counter()
    short_sides: Counter[int] = Counter()
    for shard in shards:
        labels.update(shard.labels)
        source_bytes.update(shard.source_bytes)
        short_sides.update(shard.short_sides)
    return SplitStatistics(
        class_counts=tuple(labels[label] for label in range(1, num_classes + 1)),
        source_bytes=_with_edges(source_bytes),
        short_sides=_with_edges(short_sides),
        most_pixels=max((shard.most_pixels for shard in shards), default=0),
        boxes=sum(shard.boxes for shard in shards),
        oriented=sum(shard.oriented for shard in shards),
    )


def _with_edges(counts: Counter[int]) -> tuple[tuple[int, int], ...]:
    return tuple((edge_of(number), counts[number]) for number in sorted(counts))


def _duplicates(shards: Mapping[str, Sequence[ShardStatistics]], key_at: KeyAt) -> Duplicates:
    """Count the files with the same content, and name the first of them.

    Memory: about 40 bytes per image of the dataset while it runs.
    """
    places = [(split, number) for split in SPLITS for number in range(len(shards[split]))]
    sizes = [len(shards[split][number].digests) // DIGEST_BYTES for split, number in places]
    starts = np.cumsum([0, *sizes])
    digests = np.frombuffer(
        b"".join(shards[split][number].digests for split, number in places), "<u8"
    )
    num_train = sum(
        size for (split, _), size in zip(places, sizes, strict=True) if split == "train"
    )
    order = np.argsort(digests, kind="stable")
    in_order = digests[order]
    like_last = np.zeros(len(order), bool)
    like_last[1:] = in_order[1:] == in_order[:-1]
    del in_order
    like_next = np.append(like_last[1:], False)
    copies = order[like_last | like_next]  # group after group, each in the order of the records
    if not len(copies):
        return Duplicates(train=0, validation=0, between=0, named=())
    first = np.flatnonzero(~like_last[like_last | like_next])  # the first copy of each group
    size = np.diff(first, append=len(copies))
    in_train = np.add.reduceat(copies < num_train, first, dtype=np.int64)
    in_validation = size - in_train

    def key(index: int) -> str:
        place = int(np.searchsorted(starts, index, side="right")) - 1
        split, number = places[place]
        return key_at(split, number, index - int(starts[place]))

    def keys(group: int) -> tuple[str, ...]:
        count = min(int(size[group]), MAX_NAMED_PER_GROUP)
        return tuple(sorted(key(int(copies[first[group] + copy])) for copy in range(count)))

    return Duplicates(
        train=int(np.maximum(in_train - 1, 0).sum()),
        validation=int(np.maximum(in_validation - 1, 0).sum()),
        between=int(in_validation[in_train > 0].sum()),
        named=tuple(keys(group) for group in np.argsort(copies[first])[:MAX_NAMED_GROUPS]),
    )
