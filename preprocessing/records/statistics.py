"""What is known of the images of a shard, counted while it is written, and of all shards together.

A tally is a few kilobytes and eight bytes per image, so each shard's report carries its
own and nothing is held for the whole dataset until `merge`.
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

from preprocessing.records.schema import BINS_PER_OCTAVE, SPLITS

MAX_NAMED_GROUPS, MAX_NAMED_PER_GROUP = 100, 10  # duplicates that the manifest names
DIGEST_BYTES = 8

# split, number of the shard in it, number of the record in that: the key of the image
KeyAt = Callable[[str, int, int], str]


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts over the records of one shard.

    Attributes:
        digests: XXH3-64 of each source file, 8 bytes each, in record order.
        labels: Records by label.
        source_bytes: Files by size, as `bin_of`.
        short_sides: Records by shorter side in pixels, as `bin_of`.
        most_pixels: Of the largest image, height x width.
        boxes: Bounding boxes.
    """

    digests: bytearray = field(default_factory=bytearray)
    labels: Counter[int] = field(default_factory=Counter)
    source_bytes: Counter[int] = field(default_factory=Counter)
    short_sides: Counter[int] = field(default_factory=Counter)
    most_pixels: int = 0
    boxes: int = 0

    def add(self, content: bytes, *, height: int, width: int, label: int, boxes: int) -> None:
        """Count one record.

        Args:
            content: The source file, before any repair.
            height: Pixels, as the record says.
            width: Pixels, as the record says.
            label: 1..N.
            boxes: How many.
        """
        self.digests += xxhash.xxh3_64_digest(content)
        self.labels[label] += 1
        self.source_bytes[bin_of(len(content))] += 1
        self.short_sides[bin_of(min(height, width))] += 1
        self.most_pixels = max(self.most_pixels, height * width)
        self.boxes += boxes

    def to_json(self) -> dict[str, Any]:
        """For the shard's report; the same records give the same JSON."""
        return {
            "digests": base64.b64encode(self.digests).decode(),
            "labels": _sorted(self.labels),
            "source_bytes": _sorted(self.source_bytes),
            "short_sides": _sorted(self.short_sides),
            "most_pixels": self.most_pixels,
            "boxes": self.boxes,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Tally:
        """The inverse of `to_json`."""
        return cls(
            digests=bytearray(base64.b64decode(fields["digests"])),
            labels=_counter(fields["labels"]),
            source_bytes=_counter(fields["source_bytes"]),
            short_sides=_counter(fields["short_sides"]),
            most_pixels=fields["most_pixels"],
            boxes=fields["boxes"],
        )


def bin_of(value: int) -> int:
    """Number of the logarithmic bin that holds `value`; `edge_of` gives its lower edge."""
    return math.floor(BINS_PER_OCTAVE * math.log2(value))


def edge_of(number: int) -> int:
    """The smallest whole number in bin `number`."""
    return math.ceil(round(2 ** (number / BINS_PER_OCTAVE), 9))


def _sorted(counts: Counter[int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}


def _counter(counts: dict[str, int]) -> Counter[int]:
    return Counter({int(key): count for key, count in counts.items()})


def merge(
    tallies: Mapping[str, Sequence[Tally]], num_classes: int, key_at: KeyAt
) -> dict[str, Any]:
    """The statistics of a whole dataset, as `dataset.json` carries them.

    Args:
        tallies: Per split, those of its shards in order.
        num_classes: Labels are 1 to this.
        key_at: Names a record; called for the first 100 groups of duplicates only.

    Returns:
        Per split `class_counts` (label 1 first), `source_bytes` and `short_sides`
        (`[lower edge, count]` of each bin), `most_pixels` and `boxes`; and `duplicates`.
    """
    return {
        **{split: _merge_split(shards, num_classes) for split, shards in tallies.items()},
        "duplicates": _duplicates(tallies, key_at),
    }


def _merge_split(shards: Sequence[Tally], num_classes: int) -> dict[str, Any]:
    labels: Counter[int] = Counter()
    source_bytes: Counter[int] = Counter()
    short_sides: Counter[int] = Counter()
    for shard in shards:
        labels.update(shard.labels)
        source_bytes.update(shard.source_bytes)
        short_sides.update(shard.short_sides)
    return {
        "class_counts": [labels[label] for label in range(1, num_classes + 1)],
        "source_bytes": [[edge_of(each), source_bytes[each]] for each in sorted(source_bytes)],
        "short_sides": [[edge_of(each), short_sides[each]] for each in sorted(short_sides)],
        "most_pixels": max((shard.most_pixels for shard in shards), default=0),
        "boxes": sum(shard.boxes for shard in shards),
    }


def _duplicates(tallies: Mapping[str, Sequence[Tally]], key_at: KeyAt) -> dict[str, Any]:
    """Files with the same content: how many more than once, and the first of them by name.

    Memory: about 40 bytes per image of the dataset while it runs.
    """
    shards = [(split, number) for split in SPLITS for number in range(len(tallies[split]))]
    sizes = [len(tallies[split][number].digests) // DIGEST_BYTES for split, number in shards]
    starts = np.cumsum([0, *sizes])
    digests = np.frombuffer(
        b"".join(tallies[split][number].digests for split, number in shards), "<u8"
    )
    num_train = sum(
        size for (split, _), size in zip(shards, sizes, strict=True) if split == "train"
    )
    order = np.argsort(digests, kind="stable")
    in_order = digests[order]
    like_last = np.zeros(len(order), bool)
    like_last[1:] = in_order[1:] == in_order[:-1]
    del in_order
    like_next = np.append(like_last[1:], False)
    copies = order[like_last | like_next]  # group after group, each in the order of the records
    if not len(copies):
        return {**dict.fromkeys((*SPLITS, "between"), 0), "named": []}
    first = np.flatnonzero(~like_last[like_last | like_next])  # of each group
    size = np.diff(first, append=len(copies))
    in_train = np.add.reduceat(copies < num_train, first, dtype=np.int64)
    in_validation = size - in_train
    named = np.argsort(copies[first])[:MAX_NAMED_GROUPS]

    def key(index: int) -> str:
        shard = int(np.searchsorted(starts, index, side="right")) - 1
        split, number = shards[shard]
        return key_at(split, number, index - int(starts[shard]))

    return {
        "train": int(np.maximum(in_train - 1, 0).sum()),
        "validation": int(np.maximum(in_validation - 1, 0).sum()),
        "between": int(in_validation[in_train > 0].sum()),
        "named": [
            sorted(
                key(int(copies[first[group] + place]))
                for place in range(min(int(size[group]), MAX_NAMED_PER_GROUP))
            )
            for group in named
        ],
    }
