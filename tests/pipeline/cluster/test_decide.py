"""The next action follows from the record and the attempts alone; no cluster is needed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.cluster import decide, render
from pipeline.cluster.launch import Rendered
from pipeline.cluster.record import Limits, Record
from pipeline.cluster.status.observe import Attempt, Phase, Pod

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(cpu_run: Rendered) -> Record:
    """Return a run that was just launched, with three attempts and a deadline of two hours."""
    return dataclasses.replace(
        cpu_run.record, limits=Limits(max_attempts=3, deadline_hours=2.0)
    ).with_state(since=NOW.isoformat())


def pod(index: int, exit_code: int | None = None, **changes: Any) -> Pod:
    """Return a pod that ended with `exit_code`, or runs."""
    fields: dict[str, Any] = {
        "name": f"run-train-1-worker-{index}",
        "uid": f"{index}",
        "container": "tensorflow",
        "index": index,
        "phase": "Running" if exit_code is None else "Failed" if exit_code else "Succeeded",
        "exit_code": exit_code,
        "reason": None,
        "deleted": False,
    }
    return Pod(**{**fields, **changes})


@pytest.fixture(autouse=True)
def _one_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every record's manifests be those that `attempt` was made of."""
    monkeypatch.setattr(render, "digest", lambda docs: "current")


def attempt(phase: Phase, *pods: Pod, number: int = 1, manifests: str = "current") -> Attempt:
    return Attempt(
        kind="TFJob",
        name=f"run-train-{number}",
        number=number,
        phase=phase,
        message="",
        uid="u",
        manifests=manifests,
        pods=pods,
    )


def decided(record: Record, *attempts: Attempt, step: int = 0, hours: float = 0) -> decide.Action:
    return decide.decide(
        record,
        list(attempts),
        live_pods=sum(not pod.ended for attempt in attempts for pod in attempt.pods),
        step=step,
        now=NOW + timedelta(hours=hours),
    )


def settled(record: Record, *attempts: Attempt, step: int = 0) -> tuple[Record, decide.Action]:
    """Apply changes of the record until another action is due."""
    for _ in range(10):
        action = decided(record, *attempts, step=step)
        if not isinstance(action, decide.Change):
            return record, action
        record = action.record
    raise AssertionError("never settles")


def test_a_suspended_attempt_of_other_manifests_makes_room_for_one_of_the_present_ones(
    run: Record,
) -> None:
    suspended, old = attempt("suspended"), attempt("suspended", manifests="old")
    assert decided(run, suspended) == decide.Resume(suspended)
    assert decided(run, old) == decide.Remove(old)
    assert decided(run, attempt("running", pod(0), manifests="old")) == decide.Wait()


def test_a_new_run_is_submitted_and_then_left_alone(run: Record) -> None:
    assert decided(run) == decide.Submit("train", 1)
    for phase in ("pending", "running", "restarting", "queued"):
        assert decided(run, attempt(phase, pod(0), pod(1))) == decide.Wait()


def test_stages_follow_each_other_to_the_end(run: Record) -> None:
    order = []
    while run.stage:
        action = decided(run)
        assert isinstance(action, decide.Submit)
        order.append(action.stage)
        assert action.number == 1
        change = decided(run, attempt("succeeded"))
        assert isinstance(change, decide.Change)
        run = change.record
    assert order == ["train", "evaluate", "export", "publish"]
    ended, action = settled(run)
    assert (ended.state.outcome, action) == ("succeeded", decide.Wait())


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 127])
def test_a_permanent_exit_code_fails_the_run_at_once(run: Record, code: int) -> None:
    ended, action = settled(run, attempt("failed", pod(0, 143), pod(1, code)))
    assert action == decide.Wait()
    assert (ended.state.outcome, ended.state.exit_code) == ("failed", code)
    assert f"worker-1 ended with exit code {code}" in str(ended.state.reason)


@pytest.mark.parametrize("codes", [(), (143, 143), (137, 143), (139, 143), (255, 0)])
def test_a_disruption_is_tried_again(run: Record, codes: tuple[int, ...]) -> None:
    """After `kubectl delete pod` or a drained node, no pods are left."""
    failed = attempt("failed", *(pod(i, code) for i, code in enumerate(codes)))
    assert settled(run, failed)[1] == decide.Submit("train", 2)


def test_the_next_attempt_waits_until_nothing_of_the_last_runs(run: Record) -> None:
    counted, action = settled(run, attempt("failed", pod(0), pod(1, 143)))
    assert action == decide.Wait()
    assert settled(counted, attempt("failed", pod(1, 143)))[1] == decide.Submit("train", 2)


def test_attempts_without_a_new_step_are_bounded(run: Record) -> None:
    for number in range(1, 4):
        run, action = settled(run, attempt("failed", number=number), step=100)
        expected = decide.Submit("train", number + 1)
        assert action == expected
    run, action = settled(run, attempt("failed", number=4), step=100)
    assert action == decide.Wait()
    assert run.state.outcome == "failed"
    assert "3 attempts of train in a row without a new step" in str(run.state.reason)


def test_attempts_in_which_a_worker_never_started_do_not_count(run: Record) -> None:
    for number in range(1, 30):
        waiting = attempt("failed", pod(0, 143), pod(1, phase="Pending"), number=number)
        run, action = settled(run, waiting)
        assert (run.state.no_progress_count, action) == (0, decide.Wait())
        run, action = settled(run, attempt("failed", pod(0, 143), number=number))
        assert action == decide.Submit("train", number + 1)


def test_attempts_that_get_on_are_not(run: Record) -> None:
    for number in range(1, 30):
        run, action = settled(run, attempt("failed", number=number), step=100 * number)
        assert action == decide.Submit("train", number + 1)


def test_an_attempt_is_counted_once_however_often_it_is_looked_at(run: Record) -> None:
    failed = attempt("failed", pod(0))
    first, _ = settled(run, failed)
    again, _ = settled(first, failed)
    assert again.state == first.state


def test_a_stopped_run_has_no_pods_and_goes_on_where_it_was(run: Record) -> None:
    running, suspended = attempt("running", pod(0), pod(1)), attempt("suspended")
    stopped = run.with_state(stopped=True)
    assert decided(stopped) == decide.Wait()
    assert decided(stopped, running) == decide.Suspend(running)
    assert decided(stopped, suspended) == decide.Wait()
    assert decided(run, suspended) == decide.Resume(suspended)


def test_only_kueue_suspends_a_queued_job(run: Record) -> None:
    queued = dataclasses.replace(run, spec=dataclasses.replace(run.spec, queued=True))
    waiting, running = attempt("queued"), attempt("running", pod(0))
    assert decided(queued, waiting) == decide.Wait()
    for tried in (waiting, running):
        assert decided(queued.with_state(stopped=True), tried) == decide.Remove(tried)


def test_the_deadline_stops_a_run_and_a_resume_gives_it_as_long_again(run: Record) -> None:
    running = attempt("running", pod(0), pod(1))
    assert decided(run, running, hours=1.99) == decide.Wait()
    change = decided(run, running, hours=2.01)
    assert isinstance(change, decide.Change)
    assert change.record.state.stopped
    assert "deadline of 2 hours" in str(change.record.state.reason)
    later = run.with_state(since=(NOW + timedelta(hours=3)).isoformat())
    assert decided(later, running, hours=4) == decide.Wait()


def test_a_finished_run_is_left_alone_whatever_is_there(run: Record) -> None:
    for outcome in ("succeeded", "failed"):
        finished = run.with_state(outcome=outcome)
        for phase in ("running", "failed", "suspended"):
            assert decided(finished, attempt(phase)) == decide.Wait()


def test_a_resumed_run_sets_its_last_failure_aside(run: Record) -> None:
    failed = attempt("failed", pod(0, 2))
    resumed = run.with_state(acknowledged_attempt=1, counted_attempt=1)
    assert settled(resumed, failed)[1] == decide.Submit("train", 2)
    again = attempt("failed", pod(0, 2), number=2)
    assert settled(resumed, failed, again)[0].state.outcome == "failed"
