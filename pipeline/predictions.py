"""What a model says about every validation image, and whether two models say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing.errors import CheckFailedError

TIE = 1e-4  # probabilities closer than this may change places in float32 arithmetic


@dataclass(frozen=True, slots=True)
class Predictions:
    """Scores `float32 [N, classes]`, higher is likelier, and true labels `int64 [N]`."""

    scores: np.ndarray
    labels: np.ndarray

    @property
    def examples(self) -> int:
        """N."""
        return len(self.labels)

    def accuracy(self, k: int) -> float:
        """Fraction whose label is among the k best; ties at the boundary count as hits.

        The rule of TensorFlow's `in_top_k`, which slim's Recall_5 uses.
        """
        of_label = self.scores[np.arange(self.examples), self.labels]
        better = np.count_nonzero(self.scores > of_label[:, np.newaxis], axis=1)
        return float(np.count_nonzero(better < k) / self.examples)

    @property
    def top1_classes(self) -> np.ndarray:
        """`int64 [N]`."""
        return np.argmax(self.scores, axis=1)

    def agreement(self, other: Predictions) -> float:
        """Fraction of images with the same best class."""
        return float(np.mean(self.top1_classes == other.top1_classes))


def measured(predictions: Predictions, reference: Predictions) -> dict[str, Any]:
    """The figures of one format, as metrics.json holds them."""
    return {
        "top1": predictions.accuracy(1),
        "top5": predictions.accuracy(5),
        "examples": predictions.examples,
        "agreement_with_checkpoint": predictions.agreement(reference),
    }


def require_same_answers(name: str, predictions: Predictions, reference: Predictions) -> None:
    """Refuse a float format whose best class differs anywhere but on ties.

    Raises:
        CheckFailedError: Names the worst image.
    """
    ordered = np.sort(reference.scores, axis=1)
    tied = ordered[:, -1] - ordered[:, -2] < TIE
    differs = (predictions.top1_classes != reference.top1_classes) & ~tied
    if not np.all(np.isfinite(predictions.scores)) or differs.any():
        distance = np.abs(predictions.scores - reference.scores).max(axis=1)
        worst = int(np.nanargmax(np.where(np.isfinite(distance), distance, np.inf)))
        raise CheckFailedError(
            f"{name} disagrees with the checkpoint on {int(differs.sum())} of "
            f"{predictions.examples} images, worst validation image {worst} (probabilities off by "
            f"{distance[worst]:.3g}); nothing was exported"
        )


def require_accuracy(
    name: str, predictions: Predictions, reference: Predictions, tolerance: float
) -> None:
    """Refuse a quantised format that loses more than `tolerance` of top-1.

    Raises:
        CheckFailedError: Says how much it loses and names images it newly gets wrong.
    """
    lost = reference.accuracy(1) - predictions.accuracy(1)
    if lost > tolerance:
        wrong = np.flatnonzero(
            (predictions.top1_classes != predictions.labels)
            & (reference.top1_classes == reference.labels)
        )
        raise CheckFailedError(
            f"{name} loses {lost:.4f} of top-1 {reference.accuracy(1):.4f}, more than the "
            f"{tolerance} that --int8-tolerance allows; newly wrong validation images: "
            f"{', '.join(map(str, wrong[:5]))}; nothing was exported"
        )
