"""A run's record: a ConfigMap of its name that says what is to happen and what has.

Whoever supervises reads and writes it, so launchers may die and several may supervise at once.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.cluster.api.gateway import Gateway, Object
from pipeline.cluster.api.refusals import MissingError, NameTakenError
from pipeline.cluster.render import RUN_LABEL, Manifest
from pipeline.cluster.spec import RunSpec
from preprocessing.errors import UsageError

RECORD_LABEL = "mobilenet/record"


class NoRunError(UsageError):
    """There is no run of this name, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the Training Operator does not enforce."""

    max_attempts: int  # resubmissions in a row without a new step
    deadline_hours: float | None  # since the launch or the last resume

    @property
    def deadline_seconds(self) -> float | None:
        """The same in seconds."""
        return None if self.deadline_hours is None else self.deadline_hours * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a run is and what its owner wants."""

    stopped: bool = False
    outcome: str = ""  # "", succeeded or failed
    exit_code: int = 0  # of the stage that failed
    reason: str = ""
    done: tuple[str, ...] = ()
    since: str = ""  # launch or last resume, UTC
    forgiven: int = 0  # last attempt of the stage whose failure a resume has set aside
    fruitless: int = 0  # attempts in a row that ended without a new step
    best_step: int = 0  # reached by any attempt that ended
    counted: int = 0  # last attempt that `fruitless` includes


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as the cluster knows it."""

    name: str
    spec: RunSpec
    limits: Limits
    stages: dict[str, list[Manifest]]
    state: State = field(default_factory=State)
    source: Object | None = None  # the ConfigMap it was read from

    @property
    def stage(self) -> str | None:
        """The one it is at; None after the last."""
        return next((each for each in self.spec.stages if each not in self.state.done), None)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return bool(self.state.outcome)

    def with_state(self, **changes: Any) -> Record:
        """With some of the state changed."""
        return dataclasses.replace(self, state=dataclasses.replace(self.state, **changes))

    def to_object(self) -> Object:
        """The ConfigMap."""
        metadata = (self.source or {}).get("metadata") or {
            "name": self.name,
            "labels": {RECORD_LABEL: "run", RUN_LABEL: self.name},
        }
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {
                "spec": json.dumps(self.spec.to_dict()),
                "limits": json.dumps(dataclasses.asdict(self.limits)),
                "state": json.dumps(dataclasses.asdict(self.state)),
                "stages": json.dumps(self.stages),
            },
        }

    @classmethod
    def from_object(cls, source: Object) -> Record:
        """Read the ConfigMap.

        Raises:
            UsageError: Another version wrote it.
        """
        data, name = source["data"], source["metadata"]["name"]
        try:
            state = json.loads(data["state"])
            return cls(
                name=name,
                spec=RunSpec.from_dict(json.loads(data["spec"])),
                limits=Limits(**json.loads(data["limits"])),
                stages=json.loads(data["stages"]),
                state=State(**{**state, "done": tuple(state["done"])}),
                source=source,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"the record of run {name} was written by another version ({error!r}); delete "
                f"ConfigMap {name}"
            ) from error


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def create(gateway: Gateway, record: Record) -> Record:
    """Write a new run's record, or find that of the very same run.

    Raises:
        NameTakenError: Another run has this name.
    """
    try:
        return Record.from_object(gateway.create(record.to_object()))
    except NameTakenError:
        there = read(gateway, record.name)
        if there.spec != record.spec:
            raise NameTakenError(
                f"the name is taken: {record.name} is a run of {there.spec.variant}, recipe "
                f"{there.spec.recipe}, {there.spec.layout.name}; choose another --name"
            ) from None
        return there


def read(gateway: Gateway, name: str) -> Record:
    """The record of run `name`.

    Raises:
        NoRunError: There is no such run.
    """
    source = gateway.get("ConfigMap", name)
    if source is None or RECORD_LABEL not in source["metadata"].get("labels", {}):
        raise _no_run(gateway, name)
    return Record.from_object(source)


def read_all(gateway: Gateway) -> list[Record]:
    """All runs of the namespace, oldest first."""
    found = gateway.find("ConfigMap", f"{RECORD_LABEL}=run")
    found.sort(key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))
    return [Record.from_object(each) for each in found]


def write(gateway: Gateway, record: Record) -> Record:
    """Write a record back.

    Raises:
        ConflictError: Someone else did since it was read.
        NoRunError: Someone deleted it since then.
    """
    try:
        return Record.from_object(gateway.replace(record.to_object()))
    except MissingError:
        raise _no_run(gateway, record.name) from None


def _no_run(gateway: Gateway, name: str) -> NoRunError:
    return NoRunError(f"no run {name} in namespace {gateway.namespace}; see `mobilenet jobs`")
