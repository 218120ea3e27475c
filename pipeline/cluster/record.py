"""The record of a run: a ConfigMap of its name with its specification and its state.

Every supervisor reads and writes it, so launchers may die, and several may supervise at the same
time.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.cluster import render
from pipeline.cluster.api.gateway import Gateway, Object
from pipeline.cluster.api.refusals import ConflictError, MissingError, NameTakenError
from pipeline.cluster.render import DAMAGE, RUN_LABEL, Manifest
from pipeline.cluster.spec import RunSpec
from preprocessing import storage
from preprocessing.errors import DataError, UsageError, one_line
from preprocessing.storage import contracts
from preprocessing.storage.contracts import ContractError, Measure, WholeNumber
from training.config import changes

logger = logging.getLogger(__name__)

RECORD_LABEL = "mobilenet/record"
# Names of fields in stored records that differ from the names here.
STORED_NAMES = {
    "acknowledged_attempt": "forgiven",
    "no_progress_count": "fruitless",
    "counted_attempt": "counted",
}
# A ConfigMap holds 1 MiB. The state, which grows, keeps its share, so that it can be written when
# the run is under way.
MAX_RENDERED_BYTES = (1 << 20) - (1 << 16)
MAX_REASON_CHARACTERS = 2000
NUM_SHOWN, NUM_CHARACTERS = 5, 60  # changes of a repaired run that a message shows, and of each
Outcome = Literal["succeeded", "failed"]


class NoRunError(UsageError):
    """No run has this name, or its record was deleted."""


class UnreadableError(UsageError):
    """A record is damaged, or another version of this program wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits that the Training Operator does not enforce.

    Attributes:
        max_attempts: Most attempts in a row without a new step.
        deadline_hours: Time since the launch or the last resume; None sets no limit.
    """

    max_attempts: WholeNumber
    deadline_hours: Measure | None = None

    @property
    def deadline_seconds(self) -> float | None:
        """`deadline_hours` in seconds."""
        return None if self.deadline_hours is None else self.deadline_hours * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The progress of a run and the wish of its owner.

    Attributes:
        stopped: Whether the owner or the deadline stopped the run.
        outcome: The end of the run; None before it.
        exit_code: Exit code of the stage that failed.
        reason: Explanation of the state for people.
        done: Stages that succeeded.
        since: Time of the launch or the last resume, ISO 8601, UTC.
        acknowledged_attempt: Last attempt of the stage whose failure a resume has set aside.
        no_progress_count: Attempts in a row that ended without a new step.
        best_step: Highest step of any attempt that ended.
        counted_attempt: Last attempt that `no_progress_count` includes.
        refused_since: Time since which the cluster refuses the next attempt, ISO 8601, UTC; None
            while it does not.
    """

    stopped: bool = False
    outcome: Outcome | None = None
    exit_code: WholeNumber = 0
    reason: str | None = None
    done: tuple[str, ...] = ()
    since: str | None = None
    acknowledged_attempt: WholeNumber = 0
    no_progress_count: WholeNumber = 0
    best_step: WholeNumber = 0
    counted_attempt: WholeNumber = 0
    refused_since: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that the ConfigMap holds: its names, and "" for None."""
        fields = dataclasses.asdict(self)
        return {
            STORED_NAMES.get(name, name): "" if value is None else value
            for name, value in fields.items()
        }

    @classmethod
    def from_json(cls, fields: Any) -> State:
        """Return the state that `to_json` wrote.

        Raises:
            ContractError: A field is wrong; the message names the first.
        """
        if isinstance(fields, dict):
            names = {stored: name for name, stored in STORED_NAMES.items()}
            fields = {names.get(name, name): value for name, value in fields.items() if value != ""}
        state = contracts.from_json(cls, fields, "state")
        for time in (state.since, state.refused_since):
            if time is not None and datetime.fromisoformat(time).tzinfo is None:
                raise ContractError(f"state: {time!r:.60} has no time zone")
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as the cluster knows it.

    Attributes:
        name: Name of the run and of its ConfigMap.
        spec: The specification.
        limits: Limits of the supervision.
        stages: Manifests of each stage, the job first.
        state: Progress and wishes.
        source: The ConfigMap that was read; None for a new record.
    """

    name: str
    spec: RunSpec
    limits: Limits
    stages: dict[str, list[Manifest]]
    state: State = field(default_factory=State)
    source: Object | None = None

    @property
    def stage(self) -> str | None:
        """The present stage; None after the last."""
        return next((stage for stage in self.spec.stages if stage not in self.state.done), None)

    @property
    def finished(self) -> bool:
        """Whether the run succeeded or failed."""
        return self.state.outcome is not None

    @property
    def version(self) -> str | None:
        """The version of the ConfigMap, which every change makes another."""
        return self.source["metadata"]["resourceVersion"] if self.source else None

    def with_state(self, **changes: Any) -> Record:
        """Return the record with some of the state changed; a long reason is cut."""
        if changes.get("reason"):
            changes["reason"] = changes["reason"][:MAX_REASON_CHARACTERS]
        return dataclasses.replace(self, state=dataclasses.replace(self.state, **changes))

    def to_object(self) -> Object:
        """Return the ConfigMap."""
        metadata = (self.source or {}).get("metadata") or {
            "name": self.name,
            "labels": {RECORD_LABEL: "run", RUN_LABEL: self.name},
        }
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {
                "spec": json.dumps(self.spec.to_json()),
                "limits": json.dumps(dataclasses.asdict(self.limits)),
                "state": json.dumps(self.state.to_json()),
                "stages": json.dumps(self.stages),
            },
        }

    @classmethod
    def from_object(cls, source: Object) -> Record:
        """Return the record that a ConfigMap holds.

        Raises:
            UnreadableError: It is damaged, or another version of this program wrote it.
        """
        name = source["metadata"]["name"]
        try:
            data = source["data"]
            parts = {
                part: storage.parse_json(data[part].encode(), part)
                for part in ("spec", "limits", "stages", "state")
            }
            spec = RunSpec.from_json(parts["spec"])
            stages = contracts.from_json(dict[str, list[Manifest]], parts["stages"], "stages")
            for stage in spec.stages:
                render.attempt(stages[stage], spec, name, 1)  # so that a supervisor can
            return cls(
                name=name,
                spec=spec,
                limits=contracts.from_json(Limits, parts["limits"], "limits"),
                stages={stage: stages[stage] for stage in spec.stages},
                state=State.from_json(parts["state"]),
                source=source,
            )
        except (*DAMAGE, DataError, UsageError) as error:
            raise UnreadableError(
                f"the record of run {name} is damaged, or another version wrote it "
                f"({one_line(str(error)):.200}); delete ConfigMap {name}"
            ) from error


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A run whose record cannot be read, and the reason."""

    name: str
    reason: str


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def create(gateway: Gateway, record: Record) -> Record:
    """Write a new run's record, or return the one of the same run if it exists.

    The overlay may have been repaired since: an image, a resource, a limit. From the next attempt
    on, the run uses what is there now.

    Raises:
        NameTakenError: A different run has this name.
        UsageError: The manifests are larger than a record may be.
    """
    require_room(record)
    try:
        return Record.from_object(gateway.create(record.to_object()))
    except NameTakenError:
        existing = read(gateway, record.name)
        if existing.spec != record.spec:
            raise NameTakenError(
                f"the name is taken: {record.name} is a run of {existing.spec.variant}, recipe "
                f"{existing.spec.recipe}, {existing.spec.layout.name}; choose another --name"
            ) from None
        return _repaired(gateway, existing, record)


def require_room(record: Record) -> None:
    """Check that the cluster can hold the record until the end of the run.

    Raises:
        UsageError: The manifests are larger than a record may be.
    """
    num_bytes = sum(len(text.encode()) for text in record.to_object()["data"].values())
    if num_bytes > MAX_RENDERED_BYTES:
        raise UsageError(
            f"the manifests of run {record.name} have {num_bytes:,} bytes, and a record holds "
            f"at most {MAX_RENDERED_BYTES:,}; shorten what overlay {record.spec.overlay} adds to "
            "the jobs (see `mobilenet launch --render`)"
        )


def _repaired(gateway: Gateway, existing: Record, wanted: Record) -> Record:
    """Give a run that is not done the manifests and limits of `wanted`, and say what changed."""
    while existing.state.outcome != "succeeded":
        before, after = existing.to_object()["data"], wanted.to_object()["data"]
        changed = [
            f"{place} ({json.dumps(old)[:NUM_CHARACTERS]} -> {json.dumps(new)[:NUM_CHARACTERS]})"
            for part in ("limits", "stages")
            for place, old, new in changes(json.loads(before[part]), json.loads(after[part]), part)
        ]
        if not changed:
            break
        repaired = dataclasses.replace(existing, limits=wanted.limits, stages=wanted.stages)
        try:
            written = write(gateway, repaired)
        except ConflictError:  # a supervisor wrote its state
            existing = read(gateway, existing.name)
            continue
        logger.info(
            "%s exists; from its next attempt on it uses what changed since: %s; `mobilenet stop` "
            "and `mobilenet resume` begin one now",
            existing.name,
            ", ".join(changed[:NUM_SHOWN]) + (", ..." if len(changed) > NUM_SHOWN else ""),
        )
        return written
    return existing


def read(gateway: Gateway, name: str) -> Record:
    """Return the record of run `name`.

    Raises:
        NoRunError: No run has this name.
        UnreadableError: Its record is damaged.
    """
    source = gateway.get("ConfigMap", name)
    if source is None or RECORD_LABEL not in source["metadata"].get("labels", {}):
        raise _no_run(gateway, name)
    return Record.from_object(source)


def read_all(gateway: Gateway) -> list[Record | Unreadable]:
    """Return all runs of the namespace, oldest first."""
    read_records: list[Record | Unreadable] = []
    for source in _sources(gateway):
        try:
            read_records.append(Record.from_object(source))
        except UnreadableError as error:
            read_records.append(Unreadable(source["metadata"]["name"], str(error)))
    return read_records


def versions(gateway: Gateway) -> dict[str, str]:
    """Return the version of every run's record, the oldest run first."""
    return {
        source["metadata"]["name"]: source["metadata"]["resourceVersion"]
        for source in _sources(gateway)
    }


def _sources(gateway: Gateway) -> list[Object]:
    sources = gateway.find("ConfigMap", f"{RECORD_LABEL}=run")
    return sorted(
        sources, key=lambda doc: (doc["metadata"]["creationTimestamp"], doc["metadata"]["name"])
    )


def write(gateway: Gateway, record: Record) -> Record:
    """Write a changed record.

    Raises:
        ConflictError: Someone else changed it after it was read.
        NoRunError: Someone deleted it after it was read.
    """
    try:
        return Record.from_object(gateway.replace(record.to_object()))
    except MissingError:
        raise _no_run(gateway, record.name) from None


def _no_run(gateway: Gateway, name: str) -> NoRunError:
    return NoRunError(f"no run {name} in namespace {gateway.namespace}; see `mobilenet jobs`")
