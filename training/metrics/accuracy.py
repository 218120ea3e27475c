"""Accuracy on a split: the answers for each image, the counts, and the fractions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Fractions in [0, 1], as files and tables hold them."""

    top1: float
    top5: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Correct answers and images; divided only when read."""

    correct_top1: int
    correct_top5: int
    examples: int

    @property
    def top1(self) -> float:
        """Fraction in [0, 1]."""
        return self.correct_top1 / self.examples

    @property
    def top5(self) -> float:
        """Fraction in [0, 1]; ties at the boundary count as hits, as `in_top_k` counts them."""
        return self.correct_top5 / self.examples

    @property
    def accuracy(self) -> Accuracy:
        """Both fractions."""
        return Accuracy(top1=self.top1, top5=self.top5)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedImages:
    """The answers of a model for a whole split, in the order of the records; `[N]` each.

    Attributes:
        labels: True classes.
        predicted: Classes with the highest logit.
        confidence: Probabilities of `predicted`.
        hits: `bool [N, 2]`: the label is the first, one of the first five; ties are hits.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    hits: np.ndarray

    @property
    def counts(self) -> Counts:
        """Correct answers and images."""
        top1, top5 = self.hits.sum(axis=0)
        return Counts(correct_top1=int(top1), correct_top5=int(top5), examples=len(self.labels))
