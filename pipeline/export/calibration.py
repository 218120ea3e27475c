"""The calibration images, from which int8 ranges come: equally many of every class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.export.metrics import CalibrationSummary
from preprocessing import storage
from preprocessing.errors import UsageError
from training.config import EvaluationConfig
from training.input.inception import eval_view
from training.input.records import Records, damage_named

MIN_IMAGES = 500
FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Images `float32 [N, S, S, 3]` in [-1, 1], prepared as in evaluation, and their origin.

    Attributes:
        indices: Positions in the training split.
    """

    images: np.ndarray
    indices: list[int]
    labels: list[int]

    def listing(self, records_digest: str) -> dict[str, Any]:
        """Return the content of `calibration.json`: enough to take the same images again."""
        return {
            "records_digest": records_digest,
            "split": "train",
            "indices": self.indices,
            "labels": self.labels,
        }

    def summary(self) -> CalibrationSummary:
        """Return what metrics.json holds."""
        counts = np.unique(self.labels, return_counts=True)[1]
        return CalibrationSummary(
            images=len(self.indices),
            images_per_class=(int(counts.min()), int(counts.max())),
            sha256=storage.digest_of(self.indices),
            list=FILE,
        )


def take(records: Records, config: EvaluationConfig, num_classes: int, size: int) -> Calibration:
    """Take the first training images of every class: at least 500 in all, or all there are.

    Args:
        records: The training split.
        config: The preparation of an image in evaluation; calibration never sees augmented crops.
        num_classes: The number of classes without the background.
        size: S, pixels.
    """
    if not records.num_examples:
        raise UsageError(
            f"{records.folder} has no training images, of which the int8 formats take their "
            "ranges; export with records that have some"
        )
    per_class = -(-MIN_IMAGES // num_classes)
    indices, labels = _first_of_each_class(records, num_classes, per_class)
    if len(indices) < MIN_IMAGES and len(indices) < records.num_examples:
        # Some classes have few images or none, so more are taken of the others.
        per_class = -(-MIN_IMAGES // len(set(labels)))
        indices, labels = _first_of_each_class(records, num_classes, per_class)
    with damage_named(records):
        images = [eval_view(_read(records, index)[0], size, config).numpy() for index in indices]
    return Calibration(np.stack(images), indices, labels)


def _first_of_each_class(
    records: Records, num_classes: int, per_class: int
) -> tuple[list[int], list[int]]:
    taken: dict[int, int] = {}
    indices: list[int] = []
    labels: list[int] = []
    for index in range(records.num_examples):
        if len(indices) == per_class * num_classes:
            break
        label = int(_read(records, index)[1])
        if taken.get(label, 0) < per_class:
            taken[label] = taken.get(label, 0) + 1
            indices.append(index)
            labels.append(label)
    return indices, labels


def _read(records: Records, index: int) -> tuple[tf.Tensor, tf.Tensor]:
    return records.read(tf.constant(index, tf.int64))
