"""Decisions: the next action for a run, from its record and its attempts, without a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.cluster import render
from pipeline.cluster.record import Record
from pipeline.cluster.status.observe import Attempt

LONGEST_REFUSAL = timedelta(hours=24)  # of a run's next attempt by the cluster


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until something changes."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Create attempt `number` of a stage."""

    stage: str
    number: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """Take an attempt's pods away; the attempt keeps its place."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a suspended attempt run again."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an attempt that has no pods or must have none, for another to take its place."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Change:
    """Write the record with a changed state, then decide again."""

    record: Record


Action = Wait | Submit | Suspend | Resume | Remove | Change


def decide(
    record: Record, attempts: list[Attempt], *, live_pods: int, step: int, now: datetime
) -> Action:
    """Return the next action for a run.

    Args:
        record: The record of the run.
        attempts: Attempts of its present stage that are on the cluster, oldest first.
        live_pods: Number of pods of that stage, of any attempt, that have not ended.
        step: The last training step that the newest attempt is known to have reached.
        now: The time, UTC.
    """
    state, stage = record.state, record.stage
    newest = attempts[-1] if attempts else None
    if record.finished:
        return Wait()
    if state.refused_since and newest and not newest.ended:
        return Change(record.with_state(refused_since=None, reason=None))
    if stage is None:
        return Change(record.with_state(outcome="succeeded", reason=None))
    if newest and newest.phase == "succeeded":
        return Change(
            record.with_state(
                done=(*state.done, stage),
                acknowledged_attempt=0,
                no_progress_count=0,
                counted_attempt=0,
                reason=None,
            )
        )
    if state.stopped:
        return _stop(newest, record.spec.queued)
    if reason := _refused(record, now):
        return Change(record.with_state(outcome="failed", exit_code=1, reason=reason))
    if newest and newest.phase == "failed":
        return _after_failure(record, stage, newest, live_pods, step)
    if reason := _overdue(record, now):
        return Change(record.with_state(stopped=True, reason=reason))
    if newest is None:
        return Wait() if live_pods else Submit(stage, state.counted_attempt + 1)
    if newest.phase == "suspended":
        is_current = newest.manifests == render.digest(record.stages[stage])
        return Resume(newest) if is_current else Remove(newest)
    return Wait()


def _stop(newest: Attempt | None, queued: bool) -> Action:
    if newest is None or newest.ended or (newest.suspended and not queued):
        return Wait()
    # Kueue alone decides whether one of its jobs is suspended.
    return Remove(newest) if queued else Suspend(newest)


def _after_failure(
    record: Record, stage: str, failed: Attempt, live_pods: int, step: int
) -> Action:
    """End the run, count the attempt, or try again once its last pod is gone."""
    state = record.state
    code = failed.permanent_exit_code
    if code is not None and failed.number > state.acknowledged_attempt:
        culprit = next(pod.name for pod in failed.pods if pod.exit_code == code)
        return Change(
            record.with_state(
                outcome="failed",
                exit_code=code,
                reason=f"{culprit} ended with exit code {code}, which a retry would not change "
                f"(mobilenet logs {record.name})",
            )
        )
    if state.counted_attempt < failed.number:
        in_vain = state.no_progress_count + (0 if failed.waited else 1)
        return Change(
            record.with_state(
                counted_attempt=failed.number,
                no_progress_count=0 if step > state.best_step else in_vain,
                best_step=max(step, state.best_step),
                reason=f"attempt {failed.number} of {stage} was disrupted ({_why(failed)})",
            )
        )
    if state.no_progress_count >= record.limits.max_attempts:
        return Change(
            record.with_state(
                outcome="failed",
                exit_code=1,
                reason=f"{state.no_progress_count} attempts of {stage} in a row without a new "
                f"step, the last: {_why(failed)}; `mobilenet resume {record.name}` tries again",
            )
        )
    if live_pods:
        return Wait()  # two attempts must never write into one folder
    return Submit(stage, failed.number + 1)


def _why(failed: Attempt) -> str:
    for pod in failed.pods:
        if pod.reason:
            return f"{pod.name}: {pod.reason}"
    codes = sorted({pod.exit_code for pod in failed.pods if pod.exit_code})
    if codes:
        return f"exit code {', '.join(map(str, codes))}"
    return failed.message or "a pod was deleted"


def _refused(record: Record, now: datetime) -> str | None:
    """Return why a run ends whose next attempt the cluster refuses; None if it goes on."""
    since = record.state.refused_since
    if not since or now - datetime.fromisoformat(since) < LONGEST_REFUSAL:
        return None
    return (
        f"refused for {LONGEST_REFUSAL.total_seconds() / 3600:g} hours, the last time: "
        f"{record.state.reason}; `mobilenet resume {record.name}` tries again"
    )


def _overdue(record: Record, now: datetime) -> str | None:
    seconds = record.limits.deadline_seconds
    if seconds is None or not record.state.since:
        return None
    if (now - datetime.fromisoformat(record.state.since)).total_seconds() < seconds:
        return None
    return (
        f"stopped at its deadline of {record.limits.deadline_hours:g} hours; "
        f"`mobilenet resume {record.name}` gives it as many again"
    )
