"""Which image goes into which shard, in which place: a function of seed, keys and counts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import DataError, UsageError
from preprocessing.schema import SCHEMA_VERSION, SPLITS, ImageClass, shard_name
from preprocessing.sources import ImageReference, Source

MIN_EXAMPLES_PER_SHARD = 128  # when the number of shards is left open
DEFAULT_SHARDS = {"train": 1024, "validation": 128}  # as published


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One shard to write: the unit of work, of retry and of resume."""

    split: str
    file: str
    images: tuple[ImageReference, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestPlan:
    """All shards of both splits, and the fingerprint of everything that decides their bytes."""

    fingerprint: str
    options: dict[str, Any]
    classes: tuple[ImageClass, ...]
    shards: tuple[ShardPlan, ...]

    @property
    def num_images(self) -> int:
        """Images in the source, rejects included."""
        return sum(len(shard.images) for shard in self.shards)


def default_num_shards(split: str, num_images: int) -> int:
    """The published number, halved until a shard holds at least 128 images."""
    num_shards = DEFAULT_SHARDS[split]
    while num_shards > 1 and num_images < num_shards * MIN_EXAMPLES_PER_SHARD:
        num_shards //= 2
    return num_shards


def plan_ingest(source: Source, num_shards: dict[str, int], seed: int) -> IngestPlan:
    """Shuffle globally and cut into shards that differ by at most one image.

    Args:
        source: What there is; its order does not matter.
        num_shards: Per split; 0 means `default_num_shards`.
        seed: Of the shuffle.

    Raises:
        UsageError: More shards than images.
        DataError: A key is there twice.
    """
    shards: list[ShardPlan] = []
    options: dict[str, Any] = {"seed": seed}
    for split in SPLITS:
        images = list(source.images(split))
        _refuse_duplicates(images)
        count = num_shards[split] or default_num_shards(split, len(images))
        if count > len(images):
            raise UsageError(
                f"--{split}-shards {count} is more than the {len(images)} {split} images"
            )
        options[f"{split}_shards"] = count
        ordered = shuffled(images, seed)
        edges = [len(ordered) * index // count for index in range(count + 1)]
        shards += [
            ShardPlan(
                split=split,
                file=shard_name(split, index, count),
                images=tuple(ordered[edges[index] : edges[index + 1]]),
            )
            for index in range(count)
        ]
    return IngestPlan(
        fingerprint=_fingerprint(source, options, shards),
        options=options,
        classes=source.classes,
        shards=tuple(shards),
    )


def _refuse_duplicates(images: Iterable[ImageReference]) -> None:
    seen: dict[str, ImageReference] = {}
    for image in images:
        first = seen.setdefault(image.key, image)
        if first is not image:
            raise DataError(
                f"{image.key} is there twice: at byte {first.offset} of {first.path} "
                f"and at byte {image.offset} of {image.path}"
            )


def shuffled(images: Iterable[ImageReference], seed: int) -> list[ImageReference]:
    """Order by SHA-256 of seed and key: the same whatever the input order."""
    return sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image.key}".encode()).digest())


def _fingerprint(source: Source, options: dict[str, Any], shards: list[ShardPlan]) -> str:
    digest = hashlib.sha256(repr((SCHEMA_VERSION, sorted(options.items()))).encode())
    for each in source.classes:
        digest.update(f"{each.index} {each.synset} {each.text}\n".encode())
    for shard in shards:
        digest.update(f"{shard.file}\n".encode())
        for image in shard.images:
            digest.update(
                f"{image.key} {image.offset} {image.size} {image.label} {image.boxes}\n".encode()
            )
    return digest.hexdigest()
