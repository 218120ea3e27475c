"""The contract of a workdir's evaluations: the accuracy of one checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from preprocessing.storage import contracts
from preprocessing.storage.contracts import Json
from training.metrics.accuracy import Accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The accuracy of the averaged weights of `step`, in [0, 1]; `evaluations/STEP.json`."""

    step: int
    top1: float
    top5: float

    @classmethod
    def of(cls, step: int, accuracy: Accuracy) -> Evaluation:
        """Return the accuracy of the checkpoint of `step`."""
        return cls(step=step, top1=accuracy.top1, top5=accuracy.top5)

    def to_json(self) -> Json:
        """Return the fields by name."""
        return contracts.to_json(self)

    @classmethod
    def from_json(cls, value: object, name: str) -> Evaluation:
        """Read what `to_json` returned.

        Raises:
            ContractError: A field is missing or has a value of another type; names it.
        """
        return contracts.from_json(cls, value, name)


def best_of(evaluations: Iterable[Evaluation]) -> Evaluation | None:
    """Return the one with the highest top-1, the later of two that are equal; None of none."""
    return max(evaluations, key=lambda each: (each.top1, each.step), default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalEvaluation:
    """The result of `mobilenet evaluate`: `evaluation.json`.

    Attributes:
        workdir: The folder of the run as it was given.
        step: Step of the checkpoint.
        top1: Fraction in [0, 1].
        top5: Fraction in [0, 1].
        examples: Number of validation images.
        records_digest: Digest of the records.
        weights_digest: Digest of the checkpoint.
    """

    workdir: str
    step: int
    top1: float
    top5: float
    examples: int
    records_digest: str
    weights_digest: str

    def to_json(self) -> Json:
        """Return the fields by name."""
        return contracts.to_json(self)

    @classmethod
    def from_json(cls, value: object, name: str) -> FinalEvaluation:
        """Return the evaluation that parsed JSON describes.

        Raises:
            ContractError: A field is missing or has a value of another type; names it.
        """
        return contracts.from_json(cls, value, name)
