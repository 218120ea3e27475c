"""The calibration images, from which int8 ranges come: equally many of every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.export.metrics import CalibrationSummary
from preprocessing import storage
from preprocessing.errors import UsageError
from training.config import EvaluationConfig
from training.input.data import READS, evaluation_examples
from training.input.parallelism import untuned
from training.input.records import Records, damage_named

MIN_IMAGES = 500
FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Images `float32 [S, S, 3]` in [-1, 1], prepared as in evaluation when they are iterated over.

    Attributes:
        records: The training split.
        config: The preparation of an image in evaluation; calibration never sees augmented crops.
        size: S, pixels.
        indices: Positions in the training split.
        labels: The images' classes.
    """

    records: Records
    config: EvaluationConfig
    size: int
    indices: list[int]
    labels: list[int]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the images one at a time: a thousand of 224 pixels take 600 MB.

        Raises:
            DataError: A record is damaged.
        """
        examples = evaluation_examples(self.records, self.config, self.size)
        for start in range(0, len(self.indices), READS):
            indices = self.indices[start : start + READS]
            with damage_named(self.records, indices):
                images, _ = examples(np.asarray(indices))
            yield from images

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
        config: The preparation of an image in evaluation.
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
    return Calibration(records=records, config=config, size=size, indices=indices, labels=labels)


def _first_of_each_class(
    records: Records, num_classes: int, per_class: int
) -> tuple[list[int], list[int]]:
    taken: Counter[int] = Counter()
    indices: list[int] = []
    labels: list[int] = []
    of_records = tf.data.Dataset.range(records.num_examples).map(
        lambda index: records.read(index)[1], num_parallel_calls=READS, deterministic=True
    )
    with damage_named(records):
        for index, label in enumerate(map(int, untuned(of_records).as_numpy_iterator())):
            if taken[label] < per_class:
                taken[label] += 1
                indices.append(index)
                labels.append(label)
            if len(indices) == per_class * num_classes:
                break
    return indices, labels
