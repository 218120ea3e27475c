"""What to do next for a run, from its record and what the cluster shows; no cluster needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipeline.cluster.record import Record
from pipeline.cluster.status.observe import Attempt


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Create attempt `number` of a stage."""

    stage: str
    number: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """Take an attempt's pods away; it keeps its place."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a suspended attempt run again."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an attempt: Kueue alone decides whether one of its jobs is suspended."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Change:
    """Write the record with a changed state, then look again."""

    record: Record


Action = Wait | Submit | Suspend | Resume | Remove | Change


def decide(
    record: Record, attempts: list[Attempt], *, live_pods: int, step: int, now: datetime
) -> Action:
    """The next action for a run.

    Args:
        record: Its record.
        attempts: Those of its present stage that are on the cluster, oldest first.
        live_pods: Pods of that stage that have not ended, of whatever attempt.
        step: The last training step that the newest attempt is known to have reached.
        now: The time, UTC.
    """
    state, stage = record.state, record.stage
    newest = attempts[-1] if attempts else None
    if record.finished:
        return Wait()
    if stage is None:
        return Change(record.with_state(outcome="succeeded", reason=""))
    if newest and newest.phase == "succeeded":
        return Change(
            record.with_state(
                done=(*state.done, stage), forgiven=0, fruitless=0, counted=0, reason=""
            )
        )
    if state.stopped:
        return _stop(newest, record.spec.queued)
    if newest and newest.phase == "failed":
        return _after_failure(record, stage, newest, live_pods, step)
    if reason := _overdue(record, now):
        return Change(record.with_state(stopped=True, reason=reason))
    if newest is None:
        return Wait() if live_pods else Submit(stage, state.counted + 1)
    if newest.phase == "suspended":
        return Resume(newest)
    return Wait()


def _stop(newest: Attempt | None, queued: bool) -> Action:
    if newest is None or newest.ended or (newest.suspended and not queued):
        return Wait()
    return Remove(newest) if queued else Suspend(newest)


def _after_failure(
    record: Record, stage: str, failed: Attempt, live_pods: int, step: int
) -> Action:
    """Give up for good, count the attempt, or try again once its last pod is gone."""
    state = record.state
    code = failed.permanent_exit_code
    if code is not None and failed.number > state.forgiven:
        pod = next(each.name for each in failed.pods if each.exit_code == code)
        return Change(
            record.with_state(
                outcome="failed",
                exit_code=code,
                reason=f"{pod} ended with exit code {code}, which a retry would not change "
                f"(mobilenet logs {record.name})",
            )
        )
    if state.counted < failed.number:
        progressed = step > state.best_step
        return Change(
            record.with_state(
                counted=failed.number,
                fruitless=0 if progressed else state.fruitless + 1,
                best_step=max(step, state.best_step),
                reason=f"attempt {failed.number} of {stage} was disrupted ({_why(failed)})",
            )
        )
    if state.fruitless >= record.limits.max_attempts:
        return Change(
            record.with_state(
                outcome="failed",
                exit_code=1,
                reason=f"{state.fruitless} attempts of {stage} in a row without a new step, the "
                f"last: {_why(failed)}; `mobilenet resume {record.name}` tries again",
            )
        )
    if live_pods:
        return Wait()  # two attempts must never write into one folder
    return Submit(stage, failed.number + 1)


def _why(failed: Attempt) -> str:
    for pod in failed.pods:
        if pod.reason:
            return f"{pod.name}: {pod.reason}"
    codes = sorted({each.exit_code for each in failed.pods if each.exit_code})
    if codes:
        return f"exit code {', '.join(map(str, codes))}"
    return failed.message or "a pod was deleted"


def _overdue(record: Record, now: datetime) -> str:
    seconds = record.limits.deadline_seconds
    if seconds is None or not record.state.since:
        return ""
    if (now - datetime.fromisoformat(record.state.since)).total_seconds() < seconds:
        return ""
    return (
        f"stopped at its deadline of {record.limits.deadline_hours:g} hours; "
        f"`mobilenet resume {record.name}` gives it as many again"
    )
