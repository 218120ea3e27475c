"""Supervision: bring runs to their end by submitting, resubmitting, stopping and resuming.

Each round decides from the present state of the cluster, never from remembered events.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from pipeline.cluster import decide, record
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.refusals import (
    ConflictError,
    LoggedOutError,
    MissingError,
    NameTakenError,
)
from pipeline.cluster.backends import registry
from pipeline.cluster.record import NoRunError, Record
from pipeline.cluster.render import RUN_LABEL, attempt
from pipeline.cluster.status import observe, training_progress
from preprocessing.errors import PermanentError, RetryError

LOOK_SECONDS = 10.0  # rounds come even without a change, because progress is in the logs
MAX_PAUSE_SECONDS = 60.0
MAX_ACTIONS = 20  # most actions for one run in a round, so that every run gets its turn

logger = logging.getLogger(__name__)


class Supervisor:
    """The supervisor of the runs of one namespace."""

    def __init__(self, gateway: Gateway, tell: Callable[[str], None] = logger.info) -> None:
        self._gateway = gateway
        self._tell = tell
        self._told: dict[str, str] = {}
        self._steps: dict[str, int] = {}  # by attempt name, because logs vanish with pods
        self._complete: set[str] = set()  # attempts whose objects all exist

    def advance(self, run: str) -> Record:
        """Take all actions that are possible for one run now.

        Raises:
            NoRunError: Someone deleted its record.
            RetryError: The cluster does not answer; nothing is lost, so try again.
        """
        for _ in range(MAX_ACTIONS):
            current = record.read(self._gateway, run)
            stage = current.stage
            attempts, live_pods = self._look(current)
            newest = attempts[-1] if attempts else None
            step = self._step(current, newest)
            action = decide.decide(
                current, attempts, live_pods=live_pods, step=step, now=record.now()
            )
            if newest and not newest.ended and stage:
                self._complete_objects(current, stage, newest)
            self._report(current, newest, step)
            if isinstance(action, decide.Wait):
                return current
            try:
                self._do(current, action)
            except (
                ConflictError,
                MissingError,
            ):  # another supervisor was faster
                continue
        return current

    def _look(self, current: Record) -> tuple[list[observe.Attempt], int]:
        if current.finished or current.stage is None:
            return [], 0
        kind = registry.for_stage(current.spec.backend, current.stage).kind
        return observe.attempts(self._gateway, current.name, current.stage, kind)

    def _step(self, current: Record, newest: observe.Attempt | None) -> int:
        if newest is None or current.stage != "train":
            return 0
        if progress := training_progress.of(self._gateway, newest):
            self._steps[newest.name] = max(progress.step, self._steps.get(newest.name, 0))
        return self._steps.get(newest.name, 0)

    def _do(self, current: Record, action: decide.Action) -> None:
        match action:
            case decide.Change():
                record.write(self._gateway, action.record)
            case decide.Submit():
                job, *_ = attempt(
                    current.stages[action.stage], current.spec, current.name, action.number
                )
                try:
                    self._gateway.create(job)
                except NameTakenError:  # another supervisor was faster
                    return
                self._tell(f"{current.name}: submitted {action.stage}, attempt {action.number}")
            case decide.Suspend() | decide.Resume():
                suspended = isinstance(action, decide.Suspend)
                self._gateway.suspend(action.attempt.kind, action.attempt.name, suspended)
            case decide.Remove():
                self._gateway.delete(action.attempt.kind, action.attempt.name)

    def _complete_objects(self, current: Record, stage: str, newest: observe.Attempt) -> None:
        """Create the other objects of an attempt; its job owns them, so they vanish with it."""
        if newest.name in self._complete:
            return
        job, *others = attempt(current.stages[stage], current.spec, current.name, newest.number)
        for doc in others:
            doc["metadata"]["ownerReferences"] = [
                {
                    "apiVersion": job["apiVersion"],
                    "kind": newest.kind,
                    "name": newest.name,
                    "uid": newest.uid,
                }
            ]
            try:
                self._gateway.create(doc)
            except NameTakenError:
                continue
        self._complete.add(newest.name)

    def _report(self, current: Record, newest: observe.Attempt | None, step: int) -> None:
        line = status_line(self._gateway, current, newest)
        if step:
            line += f", step {step}"
        if line and self._told.get(current.name) != line:
            self._told[current.name] = line
            self._tell(f"{current.name}: {line}")


def status_line(gateway: Gateway, current: Record, newest: observe.Attempt | None) -> str:
    """Return a run's state in a few words, with the reason when it makes no progress."""
    state = current.state
    if current.finished:
        return f"{state.outcome}{f': {state.reason}' if state.reason else ''}"
    stage = current.stage or "done"
    phase = newest.phase if newest else "pending"
    if state.stopped:
        return f"{stage} stopped{f': {state.reason}' if state.reason else ''}"
    reason = observe.obstacle(gateway, newest) if newest and not newest.ended else state.reason
    return f"{stage} {phase}{f': {reason}' if reason else ''}"


def supervise(
    gateway: Gateway, runs: Sequence[str], *, stay: bool, tell: Callable[[str], None] = logger.info
) -> list[Record]:
    """Bring runs to their end, through all failures of the cluster.

    Args:
        gateway: The namespace.
        runs: Names of the runs; an empty sequence means all runs, new ones included.
        stay: When all have ended, wait for new ones.
        tell: Function that takes each line of progress.

    Returns:
        The records; every run is finished or stopped.

    Raises:
        PermanentError: The records of some of `runs` were deleted; the other runs have ended.
    """
    supervisor = Supervisor(gateway, tell)
    changes = Changes(gateway)
    failures = 0
    gone: dict[str, str] = {}
    try:
        while True:
            try:
                changes.clear()
                names = runs or [current.name for current in record.read_all(gateway)]
                records = []
                for name in names:
                    if name in gone and runs:
                        continue
                    try:
                        records.append(supervisor.advance(name))
                    except NoRunError:
                        gone[name] = _farewell(name)
                        tell(gone[name])
                failures = 0
            except RetryError as error:
                failures += 1
                if failures == 1:
                    tell(f"{error}; trying again until it does")
                _pause(gateway, error, failures)
                continue
            if not stay and all(current.finished or current.state.stopped for current in records):
                if gone and runs:
                    raise PermanentError("; ".join(gone.values()))
                return records
            changes.wait(LOOK_SECONDS)
    finally:
        changes.stop()


def _farewell(run: str) -> str:
    kinds = ",".join(backend.resource_name for backend in registry.BACKENDS)
    return (
        f"run {run}: its record was deleted, so it is no longer supervised; its jobs go on until "
        f"kubectl delete {kinds} -l {RUN_LABEL}={run}"
    )


def _pause(gateway: Gateway, error: RetryError, failures: int) -> None:
    if isinstance(error, LoggedOutError):
        gateway.reconnect()
    longest = min(MAX_PAUSE_SECONDS, 0.5 * 2 ** min(failures, 10))
    time.sleep(random.uniform(longest / 2, longest))


class Changes:
    """Watches of all objects that belong to runs; they report only that something changed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._changed = threading.Event()
        self._stopped = threading.Event()
        for kind in ("Pod", *registry.kinds(), "ConfigMap"):
            threading.Thread(target=self._watch, args=(kind,), daemon=True).start()

    def clear(self) -> None:
        """Forget past changes; whatever is read afterwards includes them."""
        self._changed.clear()

    def wait(self, timeout_seconds: float) -> None:
        """Wait until something changes or the time is over."""
        self._changed.wait(timeout_seconds)

    def stop(self) -> None:
        """End all watches."""
        self._stopped.set()

    def _watch(self, kind: str) -> None:
        while not self._stopped.is_set():
            try:
                for _ in self._gateway.watch(kind, RUN_LABEL, self._stopped):
                    self._changed.set()
            except RetryError:  # the supervisor meets the same error and reports it
                pass
            except PermanentError:  # the cluster lacks this kind, or forbids watching it
                return
            self._stopped.wait(random.uniform(1, 3))


def stop(gateway: Gateway, run: str) -> Record:
    """Stop a run and take its pods away; its checkpoints stay."""
    _change(gateway, run, lambda current: current.with_state(stopped=True, reason=None))
    return Supervisor(gateway).advance(run)


def resume(gateway: Gateway, run: str) -> Record:
    """Let a stopped run go on, or a failed one from the stage that failed."""
    current = record.read(gateway, run)
    number = 0
    if current.stage:
        kind = registry.for_stage(current.spec.backend, current.stage).kind
        attempts, _ = observe.attempts(gateway, run, current.stage, kind)
        number = max((tried.number for tried in attempts if tried.phase == "failed"), default=0)

    def change(stored: Record) -> Record:
        if stored.state.outcome == "succeeded":
            return stored
        return stored.with_state(
            stopped=False,
            outcome=None,
            exit_code=0,
            reason=None,
            since=record.now().isoformat(),
            acknowledged_attempt=number,
            counted_attempt=max(number, stored.state.counted_attempt),
            no_progress_count=0,
        )

    return _change(gateway, run, change)


def _change(gateway: Gateway, run: str, change: Callable[[Record], Record]) -> Record:
    while True:
        current = record.read(gateway, run)
        try:
            return record.write(gateway, change(current))
        except ConflictError:
            continue
