"""Predictions of a model on the validation images, and checks that two models agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.export.formats.export_format import ExportFormat
from pipeline.export.metrics import FormatMetrics
from preprocessing.errors import CheckFailedError

# The two best probabilities may change places in float32 arithmetic where their relative
# difference is smaller.
TIE = 1e-4
ROUNDING = 1e-9  # of a difference of accuracies: in floats, 1.00 - 0.98 is more than 0.02
NUM_WORST = 8


@dataclass(frozen=True, slots=True)
class Predictions:
    """Scores `float32 [N, classes]`, of which higher is likelier, and true labels `int64 [N]`."""

    scores: np.ndarray
    labels: np.ndarray

    @property
    def examples(self) -> int:
        """N, the number of images."""
        return len(self.labels)

    @property
    def ranks(self) -> np.ndarray:
        """`int64 [N]`: the number of classes before the label, 0 if the label is first.

        Equal scores come in the order of their classes, as in `tf.math.top_k`. `in_top_k`, which
        evaluation uses, counts every tie as a hit. The two agree where there are no ties, but an
        int8 model scores most classes 0.
        """
        of_label = self.scores[np.arange(self.examples), self.labels][:, np.newaxis]
        earlier = np.arange(self.scores.shape[1]) < self.labels[:, np.newaxis]
        before = (self.scores > of_label) | ((self.scores == of_label) & earlier)
        return np.count_nonzero(before, axis=1)

    def accuracy(self, k: int) -> float:
        """Return the fraction of images whose label is among the k best classes, see `ranks`."""
        return float(np.count_nonzero(self.ranks < k) / self.examples)

    @property
    def top1_classes(self) -> np.ndarray:
        """`int64 [N]`: the best class of every image."""
        return np.argmax(self.scores, axis=1)

    def agreement(self, other: Predictions) -> float:
        """Return the fraction of images with the same best class."""
        return float(np.mean(self.top1_classes == other.top1_classes))


class DisagreementError(CheckFailedError):
    """A format disagrees with its checkpoint on `images`, the worst first."""

    def __init__(self, message: str, name: str, images: list[int]) -> None:
        super().__init__(message)
        self.name = name
        self.images = images


def measured(predictions: Predictions, reference: Predictions) -> FormatMetrics:
    """Return the figures of one format, as metrics.json holds them."""
    return FormatMetrics(
        top1=predictions.accuracy(1),
        top5=predictions.accuracy(5),
        examples=predictions.examples,
        agreement_with_checkpoint=predictions.agreement(reference),
        largest_difference=float(np.abs(predictions.scores - reference.scores).max()),
    )


def require_within(
    export_format: ExportFormat,
    predictions: Predictions,
    reference: Predictions,
    *,
    adjusted_top1_loss: float | None = None,
) -> None:
    """Refuse a format that is outside its tolerance.

    Args:
        export_format: The format, which has the tolerance.
        predictions: The format's predictions.
        reference: The checkpoint's predictions.
        adjusted_top1_loss: The value of `--int8-tolerance`, for formats that it adjusts.

    Raises:
        DisagreementError: The format is outside; `images` are the worst.
    """
    tolerance = export_format.tolerance
    if tolerance.max_top1_loss is None:
        require_same_answers(export_format.name, predictions, reference)
        return
    adjusted = tolerance.adjustable and adjusted_top1_loss is not None
    require_accuracy(
        export_format.name,
        predictions,
        reference,
        adjusted_top1_loss if adjusted else tolerance.max_top1_loss,  # type: ignore[arg-type]
        advice="--int8-tolerance changes that" if tolerance.adjustable else "",
    )


def require_same_answers(name: str, predictions: Predictions, reference: Predictions) -> None:
    """Refuse a float format whose best class differs anywhere but on ties.

    Raises:
        DisagreementError: The message names the worst images.
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
    name: str,
    predictions: Predictions,
    reference: Predictions,
    tolerance: float,
    *,
    advice: str = "",
) -> None:
    """Refuse a quantised format that loses more than `tolerance` of top-1.

    Args:
        name: The format.
        predictions: The format's predictions.
        reference: The checkpoint's predictions.
        tolerance: The fraction of top-1 that the format may lose.
        advice: A hint for the message on how to change the tolerance or the loss.

    Raises:
        DisagreementError: The message says how much is lost and names newly wrong images.
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
    """Refuse NaN and infinity, which compare as if they were right."""
    broken = np.flatnonzero(~np.isfinite(predictions.scores).all(axis=1))
    if len(broken):
        raise DisagreementError(
            f"{name} gives no number on {len(broken)} of {predictions.examples} images, the first "
            f"is validation image {broken[0]}; nothing was exported",
            name,
            broken[:NUM_WORST].tolist(),
        )


def _worst(chosen: np.ndarray, predictions: Predictions, reference: Predictions) -> list[int]:
    """Return the chosen images whose probabilities are the farthest off, worst first."""
    indices = np.flatnonzero(chosen)
    distance = np.abs(predictions.scores[indices] - reference.scores[indices]).max(axis=1)
    ordered: list[int] = indices[np.argsort(-distance, kind="stable")][:NUM_WORST].tolist()
    return ordered
