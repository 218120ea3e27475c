"""Predictions of a model on the validation images, and checks that two models agree."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from pipeline.export.formats.export_format import ExportFormat
from pipeline.export.metrics import FormatMetrics
from preprocessing.errors import CheckFailedError

# The two best probabilities may change places in float32 arithmetic where their relative
# difference is smaller.
TIE = 1e-4
ROUNDING = 1e-9  # of a difference of accuracies: in floats, 1.00 - 0.98 is more than 0.02
NUM_WORST = 8
NUM_BEST = 5  # best classes kept per image


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What is kept of a model's scores for N images; higher scores are likelier.

    Equal scores come in the order of their classes, as in `tf.math.top_k`. `in_top_k`, which
    evaluation uses, counts every tie as a hit. The two agree where there are no ties, but an
    int8 model scores most classes 0.

    Attributes:
        labels: `int64 [N]`, the true classes.
        ranks: `int64 [N]`, the number of classes before the label, 0 if the label is first.
        classes: `int64 [N, 5]`, the best classes, best first; fewer if there are fewer classes.
        scores: `float32 [N, 5]`, their scores.
        differences: `float32 [N]`, the largest difference from a score of the reference.
        finite: `bool [N]`, whether every score is a number.
    """

    labels: np.ndarray
    ranks: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    differences: np.ndarray
    finite: np.ndarray

    @classmethod
    def of(
        cls, scores: np.ndarray, labels: np.ndarray, reference: np.ndarray | None = None
    ) -> Predictions:
        """Return what is kept of scores.

        Args:
            scores: `float32 [N, classes]`.
            labels: `int64 [N]`.
            reference: `float32 [N, classes]`, the scores of the reference; None if these are it.
        """
        rows = np.arange(len(labels))
        of_label = scores[rows, labels][:, np.newaxis]
        earlier = np.arange(scores.shape[1]) < labels[:, np.newaxis]
        before = (scores > of_label) | ((scores == of_label) & earlier)
        best = _best_classes(scores)
        with np.errstate(invalid="ignore"):
            off = np.abs(scores - (scores if reference is None else reference))
        return cls(
            labels=np.asarray(labels, np.int64),
            ranks=np.count_nonzero(before, axis=1),
            classes=best,
            scores=np.take_along_axis(scores, best, axis=1),
            differences=off.max(axis=1, initial=0.0),
            finite=np.isfinite(scores).all(axis=1),
        )

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the predictions on the images of all parts, in this order."""
        return cls(
            **{
                item.name: np.concatenate([getattr(part, item.name) for part in parts])
                for item in fields(cls)
            }
        )

    @property
    def examples(self) -> int:
        """N, the number of images."""
        return len(self.labels)

    def accuracy(self, k: int) -> float:
        """Return the fraction of images whose label is among the k best classes, see `ranks`."""
        return float(np.count_nonzero(self.ranks < k) / self.examples)

    @property
    def top1_classes(self) -> np.ndarray:
        """`int64 [N]`: the best class of every image."""
        classes: np.ndarray = self.classes[:, 0]
        return classes

    def agreement(self, other: Predictions) -> float:
        """Return the fraction of images with the same best class."""
        return float(np.mean(self.top1_classes == other.top1_classes))


class DisagreementError(CheckFailedError):
    """A format disagrees with its checkpoint on `images`, the worst first."""

    def __init__(self, message: str, name: str, images: list[int]) -> None:
        super().__init__(message, name, images)  # all of them, so that it crosses processes
        self.name = name
        self.images = images

    def __str__(self) -> str:
        return str(self.args[0])


def measured(predictions: Predictions, reference: Predictions) -> FormatMetrics:
    """Return the figures of one format, as metrics.json holds them."""
    return FormatMetrics(
        top1=predictions.accuracy(1),
        top5=predictions.accuracy(5),
        examples=predictions.examples,
        agreement_with_checkpoint=predictions.agreement(reference),
        largest_difference=float(predictions.differences.max()),
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
    best, second = reference.scores[:, 0], reference.scores[:, 1]
    tied = best - second <= TIE * best
    differs = (predictions.top1_classes != reference.top1_classes) & ~tied
    if differs.any():
        worst = _worst(differs, predictions)
        off = predictions.differences[worst[0]]
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
        worst = _worst(wrong, predictions)
        raise DisagreementError(
            f"{name} loses {lost:.4f} of top-1 {reference.accuracy(1):.4f}, more than the "
            f"{tolerance} allowed{f' ({advice})' * bool(advice)}; newly wrong validation images: "
            f"{', '.join(map(str, worst))}; nothing was exported",
            name,
            worst,
        )


def _require_finite(name: str, predictions: Predictions) -> None:
    """Refuse NaN and infinity, which compare as if they were right."""
    broken = np.flatnonzero(~predictions.finite)
    if len(broken):
        raise DisagreementError(
            f"{name} gives no number on {len(broken)} of {predictions.examples} images, the first "
            f"is validation image {broken[0]}; nothing was exported",
            name,
            broken[:NUM_WORST].tolist(),
        )


def _worst(chosen: np.ndarray, predictions: Predictions) -> list[int]:
    """Return the chosen images whose probabilities are the farthest off, worst first."""
    indices = np.flatnonzero(chosen)
    distance = predictions.differences[indices]
    ordered: list[int] = indices[np.argsort(-distance, kind="stable")][:NUM_WORST].tolist()
    return ordered


def _best_classes(scores: np.ndarray) -> np.ndarray:
    """Return the best classes, best first: `int64 [N, 5]`, or fewer if there are fewer classes.

    Five searches for the first maximum are ten times as fast as sorting 1,001 scores.
    """
    left = scores.copy()
    rows = np.arange(len(scores))
    best = []
    for _ in range(min(NUM_BEST, scores.shape[1])):
        best.append(left.argmax(axis=1))
        left[rows, best[-1]] = -np.inf
    return np.stack(best, axis=1)


def to_bytes(predictions_by_format: Mapping[str, Predictions]) -> bytes:
    """Return predictions as the content of a file."""
    packed = io.BytesIO()
    arrays = {
        f"{name}.{item.name}": getattr(predictions, item.name)
        for name, predictions in predictions_by_format.items()
        for item in fields(Predictions)
    }
    np.savez(packed, **arrays)
    return packed.getvalue()


def from_bytes(content: bytes) -> dict[str, Predictions]:
    """Return what `to_bytes` was given."""
    arrays = np.load(io.BytesIO(content))
    names = dict.fromkeys(key.rpartition(".")[0] for key in arrays)
    return {
        name: Predictions(
            **{item.name: arrays[f"{name}.{item.name}"] for item in fields(Predictions)}
        )
        for name in names
    }
