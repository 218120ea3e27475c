"""Training without any dataset: proves a cluster, and shows what the devices alone can do.

TensorFlow is not imported here; `training.input.source` makes the images.
"""

from __future__ import annotations

from preprocessing.records.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from preprocessing.records.schema import SCHEMA_VERSION, ImageClass, Manifest, Shard
from training.config import SYNTHETIC

EXAMPLES = {"train": NUM_TRAIN_IMAGES, "validation": 1_000}


def read_manifest(records: str) -> Manifest:
    """The manifest of a records folder, or of what stands in for one.

    Raises:
        UsageError: There is no `dataset.json`.
        DataError: It is of another schema version or not ours.
    """
    return _manifest() if records == SYNTHETIC else Manifest.read(records)


def _manifest() -> Manifest:
    """ImageNet's sizes; validation is short."""
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
        statistics={},
        source={},
        options={},
        versions={},
    )
