"""The contract of `progress.json`: the progress of a run."""

from __future__ import annotations

from dataclasses import dataclass

from preprocessing.storage import contracts
from preprocessing.storage.contracts import Json
from training.metrics.accuracy import Accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The progress of a run; None stands for what is not known yet.

    Attributes:
        step: Updates made.
        num_steps: Updates of the whole run.
        complete: Whether the run is finished and its last checkpoint saved.
        epoch: Passes over the training images.
        loss: Mean cross-entropy since the report before.
        learning_rate: Rate of the last update.
        images_per_second: Of all replicas together.
        eta_seconds: Time until the end at this speed.
        checkpoint_step: Step of the newest complete checkpoint.
        unix_time: Seconds since 1970 at the report.
        train: Means since the report before, by name.
        corrupt_records: Records that the chief has replaced.
        validation: Newest accuracy of the averages.
        imported: Which weights were imported, for a run that was not trained here.
    """

    step: int = 0
    num_steps: int | None = None
    complete: bool = False
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    checkpoint_step: int | None = None
    unix_time: float | None = None
    train: dict[str, float] | None = None
    corrupt_records: int | None = None
    validation: Accuracy | None = None
    imported: str | None = None

    def to_json(self) -> Json:
        """Return what is known; `validation` is empty while a run was not evaluated."""
        value = contracts.to_json(self)
        if self.train is not None:
            value.setdefault("validation", {})
        return value

    @classmethod
    def from_json(cls, value: object, name: str = "progress.json") -> Progress:
        """Read what `to_json` returned.

        Raises:
            ContractError: A field has a value of another type; names it.
        """
        if isinstance(value, dict) and value.get("validation") == {}:
            value = {**value, "validation": None}
        return contracts.from_json(cls, value, name)
