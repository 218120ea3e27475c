"""Weights of classes in the loss, against an imbalance of the training images."""

from __future__ import annotations

import numpy as np

from preprocessing.records.schema import Manifest
from training.config import RunConfig


def class_weights(config: RunConfig, manifest: Manifest) -> np.ndarray | None:
    """Return the weights that `training.class_weights` asks for, `float32 [outputs]`, by label.

    Balanced weights are `images / (classes * images of the class)`, as in scikit-learn: all
    classes weigh the same together, and the mean weight of an image is one. The background and
    classes without images weigh nothing.

    Returns:
        The weights; None if all images weigh the same.
    """
    class_counts = manifest.statistics.train.class_counts
    if config.training.class_weights == "equal" or not any(class_counts):
        return None
    counts = np.array([0, *class_counts], np.float64)
    present = counts > 0
    weights = np.zeros_like(counts)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)
