"""The supervisor of one run at a time: it submits, resubmits, stops and resumes.

It decides from the present state of the cluster, never from remembered events.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from pipeline.cluster import decide, record
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.refusals import (
    ConflictError,
    MissingError,
    NameTakenError,
    UnreachableError,
)
from pipeline.cluster.backends import registry
from pipeline.cluster.record import Record
from pipeline.cluster.render import attempt
from pipeline.cluster.status import observe, training_progress
from preprocessing.errors import PermanentError, RetryError

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
            PermanentError: The cluster refuses an object of the run; its record says so.
            RetryError: The cluster does not answer; nothing is lost, so try again.
            UnreadableError: Its record is damaged.
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
            self._report(current, newest, step)
            if isinstance(action, decide.Wait):
                if newest and not newest.ended and stage:
                    self._complete_objects(current, stage, newest)
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
                except UnreachableError:
                    raise
                except (PermanentError, RetryError) as error:
                    self._note_refusal(current, error)
                    raise
                self._tell(f"{current.name}: submitted {action.stage}, attempt {action.number}")
            case decide.Suspend() | decide.Resume():
                suspended = isinstance(action, decide.Suspend)
                self._gateway.suspend(action.attempt.kind, action.attempt.name, suspended)
            case decide.Remove():
                self._gateway.delete(action.attempt.kind, action.attempt.name)

    def _note_refusal(self, current: Record, error: Exception) -> None:
        """Let the record say since when, and why, the cluster refuses an attempt."""
        since = current.state.refused_since or record.now().isoformat()
        refused = current.with_state(refused_since=since, reason=str(error))
        if refused.state != current.state:
            with contextlib.suppress(PermanentError, RetryError):  # the next turn writes it
                record.write(self._gateway, refused)

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
    reason = observe.reason(gateway, newest, state.reason)
    return f"{stage} {phase}{f': {reason}' if reason else ''}"
