"""The plan of an ingest: the shard and place of each image, from seed, keys and counts alone."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.records.schema import SCHEMA_VERSION, SPLITS, ImageClass, shard_name
from preprocessing.shuffle import Shuffle, deciding_part, decode_reference, num_bytes_of
from preprocessing.sources.references import ImageReference, Source

MIN_EXAMPLES_PER_SHARD = 128  # when the number of shards is not given
DEFAULT_SHARDS = {"train": 1024, "validation": 128}  # as published


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """Options for each image besides its repair.

    Attributes:
        decode_check: Decode every pixel, and reject images of which decoders complain.
        short_side: Shrink so that the shorter side has this many pixels; 0 keeps the bytes.
        quality: Quality of the JPEGs that shrinking makes, 1 to 100.
        apply_orientation: Turn images upright whose EXIF segment says that they are not.
    """

    decode_check: bool = False
    short_side: int = 0
    quality: int = 90
    apply_orientation: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One shard to write: the unit of work, of retry and of resume.

    Only this small object travels through Beam; its references are in a plan file.

    Attributes:
        split: `train` or `validation`.
        file: Name of the shard and of its plan file.
        num_images: Number of references in the plan file.
        num_bytes: Total size of the source files.
    """

    split: str
    file: str
    num_images: int
    num_bytes: int

    def images(self, plans: str) -> Iterator[ImageReference]:
        """Yield the references in record order, from the plan file in folder `plans`."""
        content = storage.read_bytes(storage.join(plans, self.file))
        return map(decode_reference, content.splitlines())


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestPlan:
    """All shards of both splits.

    Attributes:
        fingerprint: SHA-256 over everything that decides the records besides the bytes of the
            images: classes, keys, labels, boxes and options.
        options: The options, for the manifest.
        classes: The classes in label order.
        shards: The shards of both splits.
    """

    fingerprint: str
    options: dict[str, Any]
    classes: tuple[ImageClass, ...]
    shards: tuple[ShardPlan, ...]

    @property
    def num_images(self) -> int:
        """Number of images in the source, rejects included."""
        return sum(shard.num_images for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Total size of the source files in bytes."""
        return sum(shard.num_bytes for shard in self.shards)


def default_num_shards(split: str, num_images: int) -> int:
    """Return the published number, halved until a shard holds at least 128 images."""
    num_shards = DEFAULT_SHARDS[split]
    while num_shards > 1 and num_images < num_shards * MIN_EXAMPLES_PER_SHARD:
        num_shards //= 2
    return num_shards


def plan_ingest(
    source: Source, plans: str, *, num_shards: dict[str, int], seed: int, image: ImageOptions
) -> IngestPlan:
    """Shuffle all images and cut them into shards whose sizes differ by at most one image.

    Memory does not grow with the number of images; each takes about 600 bytes on disk.

    Args:
        source: The images; their order does not matter.
        plans: Local folder to create; it gets one file of references per shard.
        num_shards: Number of shards per split; 0 means `default_num_shards`.
        seed: Seed of the shuffle.
        image: Options for each image.

    Raises:
        UsageError: A split has more shards than images.
        DataError: A key occurs twice.
    """
    os.makedirs(plans)
    shards: list[ShardPlan] = []
    options: dict[str, Any] = {"seed": seed, **dataclasses.asdict(image)}
    fingerprint = hashlib.sha256()
    for named in source.classes:
        fingerprint.update(f"{named.index} {named.synset} {named.text}\n".encode())
    for split in SPLITS:
        if split not in source.listings:
            if num_shards[split]:
                raise UsageError(
                    f"--{split}-shards {num_shards[split]}, but the source has no {split} images"
                )
            options[f"{split}_shards"] = 0
            continue
        shuffle = Shuffle(f"{plans}.{split}", seed)
        shuffle.add(source.images(split))
        count = num_shards[split] or default_num_shards(split, shuffle.num_images)
        if count > shuffle.num_images:
            raise UsageError(
                f"--{split}-shards {count} is more than the {shuffle.num_images} {split} images"
            )
        options[f"{split}_shards"] = count
        lines = shuffle.lines()
        edges = [shuffle.num_images * index // count for index in range(count + 1)]
        for index in range(count):
            file = shard_name(split, index, count)
            num_images = edges[index + 1] - edges[index]
            fingerprint.update(f"{file}\n".encode())
            num_bytes = _write_plan(
                os.path.join(plans, file), islice(lines, num_images), fingerprint.update
            )
            shards.append(
                ShardPlan(split=split, file=file, num_images=num_images, num_bytes=num_bytes)
            )
        os.rmdir(f"{plans}.{split}")
    fingerprint.update(repr((SCHEMA_VERSION, sorted(options.items()))).encode())
    return IngestPlan(
        fingerprint=fingerprint.hexdigest(),
        options=options,
        classes=source.classes,
        shards=tuple(shards),
    )


def _write_plan(path: str, lines: Iterable[bytes], note: Callable[[bytes], None]) -> int:
    """Write the plan file of one shard, and return the size of its images in bytes."""
    num_bytes = 0
    with open(path, "wb") as plan_file:
        for line in lines:
            plan_file.write(line)
            note(deciding_part(line))
            num_bytes += num_bytes_of(line)
    return num_bytes
