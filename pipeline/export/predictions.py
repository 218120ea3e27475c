"""What a model says about every validation image, and whether two models say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing.errors import CheckFailedError

# Relative: best probabilities closer than this may change places in float32 arithmetic.
TIE = 1e-4
ROUNDING = 1e-9  # of a difference of accuracies: 1.00 - 0.98 is more than 0.02
NUM_WORST = 8


@dataclass(frozen=True, slots=True)
class Predictions:
    """Scores `float32 [N, classes]`, higher is likelier, and true labels `int64 [N]`."""

    scores: np.ndarray
    labels: np.ndarray

    @property
    def examples(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def ranks(self) -> np.ndarray:
        """`int64 [N]`, classes before the label: 0 is right; equal scores in order of class.

        The rule of `tf.math.top_k`. `in_top_k`, which evaluation uses, counts every tie as a
        hit: the same without ties, but an int8 model scores most classes 0.
        """
        of_label = self.scores[np.arange(self.examples), self.labels][:, np.newaxis]
        earlier = np.arange(self.scores.shape[1]) < self.labels[:, np.newaxis]
        before = (self.scores > of_label) | ((self.scores == of_label) & earlier)
        return np.count_nonzero(before, axis=1)

    def accuracy(self, k: int) -> float:
        """Fraction whose label is among the k best, see `ranks`."""
        return float(np.count_nonzero(self.ranks < k) / self.examples)

    @property
    def top1_classes(self) -> np.ndarray:
        """`int64 [N]`."""
        return np.argmax(self.scores, axis=1)

    def agreement(self, other: Predictions) -> float:
        """Fraction of images with the same best class."""
        return float(np.mean(self.top1_classes == other.top1_classes))


class DisagreementError(CheckFailedError):
    """A format does not agree with its checkpoint; `images` are the worst, worst first."""

    def __init__(self, message: str, name: str, images: list[int]) -> None:
        super().__init__(message)
        self.name = name
        self.images = images


def measured(predictions: Predictions, reference: Predictions) -> dict[str, Any]:
    """The figures of one format, as metrics.json holds them."""
    return {
        "top1": predictions.accuracy(1),
        "top5": predictions.accuracy(5),
        "examples": predictions.examples,
        "agreement_with_checkpoint": predictions.agreement(reference),
        "largest_difference": float(np.abs(predictions.scores - reference.scores).max()),
    }


def require_same_answers(name: str, predictions: Predictions, reference: Predictions) -> None:
    """Refuse a float format whose best class differs anywhere but on ties.

    Raises:
        DisagreementError: Names the worst images.
    """
    _require_finite(name, predictions)
    ordered = np.sort(reference.scores, axis=1)
    tied = ordered[:, -1] - ordered[:, -2] <= TIE * ordered[:, -1]
    differs = (predictions.top1_classes != reference.top1_classes) & ~tied
    if differs.any():
        worst = _worst(differs, predictions, reference)
        off = np.abs(predictions.scores[worst[0]] - reference.scores[worst[0]]).max()
        raise DisagreementError(
            f"{name} disagrees with the checkpoint on {int(differs.sum())} of "
            f"{predictions.examples} images, worst validation image {worst[0]} (probabilities off "
            f"by {off:.3g}); nothing was exported",
            name,
            worst,
        )


def require_accuracy(
    name: str, predictions: Predictions, reference: Predictions, tolerance: float, advice: str = ""
) -> None:
    """Refuse a quantised format that loses more than `tolerance` of top-1.

    Args:
        name: Format, for the message.
        predictions: What it says.
        reference: What the checkpoint says.
        tolerance: How much it may lose, as a fraction.
        advice: How to change the tolerance or the loss, for the message.

    Raises:
        DisagreementError: Says how much it loses and names images it newly gets wrong.
    """
    _require_finite(name, predictions)
    lost = reference.accuracy(1) - predictions.accuracy(1)
    if lost > tolerance + ROUNDING:
        wrong = (predictions.top1_classes != predictions.labels) & (
            reference.top1_classes == reference.labels
        )
        worst = _worst(wrong, predictions, reference)
        raise DisagreementError(
            f"{name} loses {lost:.4f} of top-1 {reference.accuracy(1):.4f}, more than the "
            f"{tolerance} allowed{f' ({advice})' * bool(advice)}; newly wrong validation images: "
            f"{', '.join(map(str, worst))}; nothing was exported",
            name,
            worst,
        )


def _require_finite(name: str, predictions: Predictions) -> None:
    """Refuse NaN, which compares as if it were right."""
    broken = np.flatnonzero(~np.isfinite(predictions.scores).all(axis=1))
    if len(broken):
        raise DisagreementError(
            f"{name} gives no number on {len(broken)} of {predictions.examples} images, the first "
            f"is validation image {broken[0]}; nothing was exported",
            name,
            broken[:NUM_WORST].tolist(),
        )


def _worst(chosen: np.ndarray, predictions: Predictions, reference: Predictions) -> list[int]:
    """Of the chosen images, those whose probabilities are the farthest off, worst first."""
    indices = np.flatnonzero(chosen)
    distance = np.abs(predictions.scores[indices] - reference.scores[indices]).max(axis=1)
    ordered: list[int] = indices[np.argsort(-distance, kind="stable")][:NUM_WORST].tolist()
    return ordered
