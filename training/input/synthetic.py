"""Synthetic data: training without a dataset proves a cluster and measures its devices alone.

TensorFlow is not imported here; `training.input.source` makes the images.
"""

from __future__ import annotations

from preprocessing.records.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from preprocessing.records.schema import (
    SCHEMA_VERSION,
    Duplicates,
    ImageClass,
    Manifest,
    Shard,
    SplitStatistics,
    Statistics,
)
from training.config import SYNTHETIC

EXAMPLES = {"train": NUM_TRAIN_IMAGES, "validation": 1_000}


EMPTY = SplitStatistics(class_counts=(), source_bytes=(), short_sides=(), most_pixels=0, boxes=0)
NO_DUPLICATES = Duplicates(train=0, validation=0, between=0, named=())


def read_manifest(records: str) -> Manifest:
    """Return the manifest of a records folder, or the one of the synthetic data.

    Raises:
        UsageError: The folder has no `dataset.json`.
        DataError: The file is damaged or has another schema version.
    """
    return _manifest() if records == SYNTHETIC else Manifest.read(records)


def _manifest() -> Manifest:
    """Return a manifest of ImageNet's size with a short validation split."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        digest=SYNTHETIC,
        fingerprint=SYNTHETIC,
        classes=tuple(
            ImageClass(index=index, synset=f"n999{index:05d}", text=f"synthetic {index}")
            for index in range(1, NUM_CLASSES + 1)
        ),
        shards={
            split: (Shard(file="", examples=examples, bytes=0, sha256=""),)
            for split, examples in EXAMPLES.items()
        },
        rejects=(),
        repaired={},
        record_offsets="",
        statistics=Statistics(train=EMPTY, validation=EMPTY, duplicates=NO_DUPLICATES),
        source={},
        options={},
        versions={},
    )
