"""Bring runs to their end: submit, resubmit, stop, go on; level by level from what is there."""

from __future__ import annotations

import random
import sys
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

LOOK_SECONDS = 10.0  # even if no watch reports anything: progress is in the logs
MAX_PAUSE_SECONDS = 60.0
MAX_ACTIONS = 20  # of one run at a time, so that every run gets its turn


def say(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)


class Supervisor:
    """Supervises runs of one namespace."""

    def __init__(self, gateway: Gateway, tell: Callable[[str], None] = say) -> None:
        self._gateway = gateway
        self._tell = tell
        self._told: dict[str, str] = {}
        self._steps: dict[str, int] = {}  # by attempt name; logs vanish with pods
        self._complete: set[str] = set()  # attempts that have all their objects

    def advance(self, run: str) -> Record:
        """Do for one run what can be done now.

        Raises:
            NoRunError: Someone deleted its record.
            RetryError: The cluster does not answer; nothing is lost, try again.
        """
        for _ in range(MAX_ACTIONS):
            current = record.read(self._gateway, run)
            stage = current.stage
            found, live_pods = self._look(current)
            newest = found[-1] if found else None
            step = self._step(current, newest)
            action = decide.decide(current, found, live_pods=live_pods, step=step, now=record.now())
            if newest and not newest.ended and stage:
                self._complete_objects(current, stage, newest)
            self._report(current, newest, step)
            if isinstance(action, decide.Wait):
                return current
            try:
                self._do(current, action)
            except (ConflictError, MissingError):  # another was faster, or took the job away
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
        if said := training_progress.of(self._gateway, newest):
            self._steps[newest.name] = max(said.step, self._steps.get(newest.name, 0))
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
        """What belongs to a job beside it, owned by it, so that it goes with it."""
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
    """A run's state in a few words, with the reason if it does not get on."""
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
    gateway: Gateway, runs: Sequence[str], *, stay: bool, tell: Callable[[str], None] = say
) -> list[Record]:
    """Bring runs to their end; survives whatever the cluster does meanwhile.

    Args:
        gateway: The namespace.
        runs: Their names; none means all that there are, new ones included.
        stay: Go on when all have ended, waiting for new ones.
        tell: Takes each line of progress.

    Returns:
        The records, all finished or stopped.

    Raises:
        PermanentError: The records of some of `runs` were deleted; the others are at their end.
    """
    supervisor = Supervisor(gateway, tell)
    changes = Changes(gateway)
    failures = 0
    gone: dict[str, str] = {}
    try:
        while True:
            try:
                changes.clear()
                names = runs or [each.name for each in record.read_all(gateway)]
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
            if not stay and all(each.finished or each.state.stopped for each in records):
                if gone and runs:
                    raise PermanentError("; ".join(gone.values()))
                return records
            changes.wait(LOOK_SECONDS)
    finally:
        changes.stop()


def _farewell(run: str) -> str:
    return (
        f"run {run}: its record was deleted, so nobody looks after it; what it submitted goes on "
        f"until kubectl delete tfjobs,jobs -l {RUN_LABEL}={run}"
    )


def _pause(gateway: Gateway, error: RetryError, failures: int) -> None:
    if isinstance(error, LoggedOutError):
        gateway.reconnect()
    longest = min(MAX_PAUSE_SECONDS, 0.5 * 2 ** min(failures, 10))
    time.sleep(random.uniform(longest / 2, longest))


class Changes:
    """Watches everything that belongs to a run; says only that something changed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._changed = threading.Event()
        self._stopped = threading.Event()
        for kind in ("Pod", *registry.kinds(), "ConfigMap"):
            threading.Thread(target=self._watch, args=(kind,), daemon=True).start()

    def clear(self) -> None:
        """Forget changes so far; what is looked at after this is newer."""
        self._changed.clear()

    def wait(self, timeout_seconds: float) -> None:
        """Until something changes or the time is over."""
        self._changed.wait(timeout_seconds)

    def stop(self) -> None:
        """End all watches."""
        self._stopped.set()

    def _watch(self, kind: str) -> None:
        while not self._stopped.is_set():
            try:
                for _ in self._gateway.watch(kind, RUN_LABEL, self._stopped):
                    self._changed.set()
            except RetryError:  # the supervisor meets it too, and reports it
                pass
            except PermanentError:  # this cluster has no such kind, or we may not watch it
                return
            self._stopped.wait(random.uniform(1, 3))


def stop(gateway: Gateway, run: str) -> Record:
    """Note that a run is to stop, and take its pods away; what it saved stays."""
    _change(gateway, run, lambda each: each.with_state(stopped=True, reason=""))
    return Supervisor(gateway).advance(run)


def resume(gateway: Gateway, run: str) -> Record:
    """Note that a run is to go on: a stopped one, or a failed one from the stage that failed."""
    current = record.read(gateway, run)
    number = 0
    if current.stage:
        kind = registry.for_stage(current.spec.backend, current.stage).kind
        found, _ = observe.attempts(gateway, run, current.stage, kind)
        number = max((each.number for each in found if each.phase == "failed"), default=0)

    def change(each: Record) -> Record:
        if each.state.outcome == "succeeded":
            return each
        return each.with_state(
            stopped=False,
            outcome="",
            exit_code=0,
            reason="",
            since=record.now().isoformat(),
            forgiven=number,
            counted=max(number, each.state.counted),
            fruitless=0,
        )

    return _change(gateway, run, change)


def _change(gateway: Gateway, run: str, change: Callable[[Record], Record]) -> Record:
    while True:
        current = record.read(gateway, run)
        try:
            return record.write(gateway, change(current))
        except ConflictError:
            continue
