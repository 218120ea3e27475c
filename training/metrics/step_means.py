"""Means over training steps, as the inner loop reports them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMeans:
    """Means over some training steps.

    Attributes:
        loss: Cross-entropy over all images.
        regularization: The L2 term at the end.
        top1: Fraction of the augmented images that were classified correctly.
        input_wait: Share of the time in which the next batch of this process was not ready.
        gradient_norm: Norm of the gradient of the mean loss, at one of the last ten steps.
    """

    loss: float
    regularization: float
    top1: float
    input_wait: float
    gradient_norm: float

    @property
    def total_loss(self) -> float:
        """Cross-entropy and the L2 term."""
        return self.loss + self.regularization

    def to_json(self) -> dict[str, float]:
        """Return the values by name."""
        return dataclasses.asdict(self)


def mean_of(parts: Sequence[tuple[int, StepMeans]]) -> StepMeans:
    """Return the means over all steps of several calls.

    Args:
        parts: Number of steps and their means, for each call. What belongs to a moment is
            taken from the last one.
    """
    num_steps = sum(count for count, _ in parts)

    def mean(name: str) -> float:
        return float(sum(count * getattr(means, name) for count, means in parts) / num_steps)

    return dataclasses.replace(
        parts[-1][1],
        **{name: mean(name) for name in ("loss", "top1", "input_wait")},
    )
