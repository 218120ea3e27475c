"""Names of shards, as `prepare` and others write them."""

from __future__ import annotations

import re
from typing import NamedTuple

# `prepare` writes `train-00000-of-01024`, TFDS `imagenet-train.tfrecord-00000-of-01024`.
_SHARD_NAME = re.compile(
    r"(?:[\w.-]*[._-])?(train|validation|val)(?:[._-][\w.-]*)?-(\d{5})-of-(\d{5})(?:\.[\w.]+)?",
    re.ASCII,
)
_SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation"}


class ShardName(NamedTuple):
    """What the name of a shard says: its split, its number from 0, and the number of shards."""

    split: str
    number: int
    num_shards: int

    @classmethod
    def parse(cls, file: str) -> ShardName | None:
        """Return what a file name says; None if it is no name of a shard."""
        matched = _SHARD_NAME.fullmatch(file)
        if not matched:
            return None
        return cls(_SPLIT_NAMES[matched[1]], int(matched[2]), int(matched[3]))


def shard_name(split: str, index: int, num_shards: int) -> str:
    """Return a name such as `train-00000-of-01024`, as in the published datasets."""
    return f"{split}-{index:05d}-of-{num_shards:05d}"
