"""`certificate.json`: everything that was measured on a machine, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.certificate.golden.check import GoldenFigure
from pipeline.certificate.machine import Machine, Memory
from pipeline.certificate.precision import Precision
from pipeline.planning.diagnosis import Diagnosis
from preprocessing.storage import contracts

SCHEMA_VERSION = 1
Outcome = Literal["passed", "warned", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One verdict.

    Attributes:
        measured: What was measured, as a sentence.
        expected: What was expected, as a sentence.
        advice: What to do, as a sentence.
    """

    name: str
    outcome: Outcome
    measured: str
    expected: str
    advice: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What the machine was asked to train.

    Attributes:
        records: The folder.
        bytes_per_image: Mean size of a training record.
        minutes: The bound of the time.
    """

    variant: str
    recipe: str
    batch_per_replica: int
    records: str
    records_digest: str
    train_images: int
    bytes_per_image: float
    minutes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Extrapolation:
    """The whole run at the speed on these records.

    Attributes:
        images: Images that the run reads.
        images_per_second: The speed of all devices together.
        cost: With a price per hour only.
    """

    steps: int
    images: int
    images_per_second: float
    hours: float
    price_per_hour: float | None = None
    cost: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """All measurements.

    Attributes:
        first_step_seconds: With tracing and compilation.
        first_step_timeout_seconds: The time after which training gives it up.
        seconds: The time that each part of the certificate took.
    """

    subject: Subject
    machine: Machine
    golden: tuple[GoldenFigure, ...]
    first_step_seconds: float
    first_step_timeout_seconds: float
    speed: Diagnosis
    memory: Memory
    precision: Precision
    run: Extrapolation
    seconds: dict[str, float]

    @property
    def cores_needed_per_device(self) -> float:
        """Number of cores that keep one device busy."""
        return round(self.speed.cores_needed / self.speed.devices, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """`certificate.json`.

    Attributes:
        outcome: The worst of the checks.
    """

    schema_version: int = SCHEMA_VERSION
    outcome: Outcome
    checks: tuple[Check, ...]
    figures: Figures
    cores_needed_per_device: float

    def to_json(self) -> dict[str, Any]:
        """Return what `certificate.json` holds."""
        return contracts.to_json(self)

    @classmethod
    def from_json(cls, content: Any, name: str) -> Certificate:
        """Return the certificate that parsed JSON describes.

        Raises:
            ContractError: The content has another form; the message names the first wrong place.
        """
        return contracts.from_json(cls, content, name)
