"""Source files with the same content, found by their digests on disk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise

import numpy as np

from preprocessing.records.schema import SPLITS, Duplicates
from preprocessing.storage.spool import CHUNK, Spool

MAX_NAMED_GROUPS, MAX_NAMED_PER_GROUP = 100, 10  # duplicates whose keys the manifest lists
DIGEST_BYTES = 8

# The key of the image at: split, number of the shard in it, number of the record in the shard.
KeyAt = Callable[[str, int, int], str]


class Digests:
    """XXH3-64 of every source file of a dataset, in the order of the records of each split.

    Args:
        at_a_time: Number of digests that are compared in memory at a time, if files differ.
    """

    def __init__(self, at_a_time: int = CHUNK) -> None:
        self._at_a_time = at_a_time
        self._spools = {split: Spool("<u8") for split in SPLITS}
        self._sizes: dict[str, list[int]] = {split: [] for split in SPLITS}  # of the shards

    def add(self, split: str, digests: bytes) -> None:
        """Append the digests of the next shard, 8 bytes each."""
        self._spools[split].append(np.frombuffer(digests, "<u8"))
        self._sizes[split].append(len(digests) // DIGEST_BYTES)

    def duplicates(self, key_at: KeyAt) -> Duplicates:
        """Count the files with the same content, and name the first of them.

        Args:
            key_at: Function that names a record; called for the first 100 groups only.
        """
        num_train = len(self._spools["train"])
        counts = dict.fromkeys(("train", "validation", "between"), 0)
        first_groups: list[np.ndarray] = []
        for digests, places in self._ranges():
            copies, first = _groups(digests, places)
            if not len(copies):
                continue
            size = np.diff(first, append=len(copies))
            in_train = np.add.reduceat(copies < num_train, first, dtype=np.int64)
            in_validation = size - in_train
            counts["train"] += int(np.maximum(in_train - 1, 0).sum())
            counts["validation"] += int(np.maximum(in_validation - 1, 0).sum())
            counts["between"] += int(in_validation[in_train > 0].sum())
            named = np.argsort(copies[first])[:MAX_NAMED_GROUPS]
            first_groups += [
                copies[first[group] :][: min(int(size[group]), MAX_NAMED_PER_GROUP)].copy()
                for group in named
            ]
            first_groups = sorted(first_groups, key=lambda group: int(group[0]))[:MAX_NAMED_GROUPS]
        ends = {split: list(accumulate(self._sizes[split])) for split in SPLITS}

        def key(place: int) -> str:
            split = "train" if place < num_train else "validation"
            record = place if split == "train" else place - num_train
            shard = bisect_right(ends[split], record)
            return key_at(split, shard, record - (ends[split][shard - 1] if shard else 0))

        return Duplicates(
            **counts,
            named=tuple(tuple(sorted(key(int(copy)) for copy in group)) for group in first_groups),
        )

    def _ranges(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(digests, places)` of one range of values after the other.

        A place is the number of a record in the training set, followed by the validation set.
        """
        num_ranges = max(1, sum(map(len, self._spools.values())) // self._at_a_time)
        edges = [2**64 * number // num_ranges for number in range(num_ranges + 1)]
        for low, high in pairwise(edges):
            kept: list[np.ndarray] = []
            places: list[np.ndarray] = []
            start = 0
            for split in SPLITS:
                for chunk in self._spools[split]:
                    is_inside = (chunk >= np.uint64(low)) & (chunk <= np.uint64(high - 1))
                    inside = np.flatnonzero(is_inside)
                    kept.append(chunk[inside])
                    places.append(inside + start)
                    start += len(chunk)
            if kept:
                yield np.concatenate(kept), np.concatenate(places)


def _groups(digests: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of all files that are there more than once.

    Returns:
        `(copies, first)`: the places, group after group and each in their order, and the index of
        the first copy of each group.
    """
    order = np.argsort(digests, kind="stable")
    in_order = digests[order]
    like_last = np.zeros(len(order), bool)
    like_last[1:] = in_order[1:] == in_order[:-1]
    is_copy = like_last | np.append(like_last[1:], False)
    return places[order[is_copy]], np.flatnonzero(~like_last[is_copy])
