"""No run waits for another: twenty runs, six of which the cluster or their own records poison."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.cluster import launch, record, supervise
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.decide import LONGEST_REFUSAL
from pipeline.cluster.render import RUN_LABEL, STAGE_LABEL
from pipeline.cluster.rounds import Rounds
from pipeline.cluster.status import runs_table
from preprocessing.errors import PermanentError
from tests.pipeline.cluster.cluster_objects import JOBS, NAMESPACE, TFJOBS, condition
from tests.pipeline.cluster.fake_api import FakeApi, Object

pytestmark = pytest.mark.slow

ROUND_SECONDS = 30.0
HOUR_ROUNDS = 120
RECORDS = f"/api/v1{NAMESPACE}/configmaps"
REFUSED = {
    "count-quota": (403, 'tfjobs "x" is forbidden: exceeded quota: counts, limited: 4'),
    "webhook": (422, "admission webhook denied the request: spec.tfReplicaSpecs is invalid"),
    "policy": (403, "admission webhook validate.kyverno.svc denied the request: no latest tags"),
    "broken-webhook": (500, "Internal error occurred: failed calling webhook: connection refused"),
}
DAMAGED = ("truncated", "without-stages")
HEALTHY = [f"run-{index:02d}" for index in range(14)]


class Clock:
    """A time that passes when the test says so; the records' time is the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(record, "now", self.now)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def submit(gateway: Gateway, cpu_run: launch.Rendered, *names: str) -> None:
    """Put runs on the cluster that differ in their names alone."""
    for name in names:
        stages = json.loads(json.dumps(cpu_run.record.stages).replace('"run"', f'"{name}"'))
        gateway.create(dataclasses.replace(cpu_run.record, name=name, stages=stages).to_object())


def damage(api: FakeApi, name: str) -> None:
    """Leave of a record what a bad edit leaves."""
    doc = dict(api.objects[f"{RECORDS}/{name}"])
    if name == "truncated":
        doc["data"] = {**doc["data"], "state": doc["data"]["state"][:-5]}
    else:
        doc["data"] = {**doc["data"], "stages": "{}"}
    api.put(f"{RECORDS}/{name}", doc)


def refuse_some(path: str, doc: Object) -> tuple[int, str] | None:
    """Refuse the jobs of the runs in `REFUSED`, as an admission controller does."""
    is_job = path in (TFJOBS, JOBS)
    run = doc["metadata"].get("labels", {}).get(RUN_LABEL, "")
    return REFUSED.get(run) if is_job else None


def refused(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered, clock: Clock, name: str
) -> Rounds:
    """Put one of the runs in `REFUSED` on the cluster, and return its supervision."""
    submit(gateway, cpu_run, name)
    api.admission = refuse_some
    return Rounds(gateway, [], print, clock)


def finish_jobs(api: FakeApi) -> None:
    """Let every job that exists succeed."""
    for path, doc in list(api.objects.items()):
        if path.startswith((TFJOBS, JOBS)) and "status" not in doc:
            condition(api, path, "Complete" if path.startswith(JOBS) else "Succeeded")


def rounds_to_the_end(
    supervision: Rounds, api: FakeApi, clock: Clock, count: int
) -> dict[str, int]:
    """Return the number of rounds that each run took to its end, of `count` rounds."""
    ended: dict[str, int] = {}
    for number in range(count):
        supervision.next()
        for name, current in supervision.records.items():
            if current.finished:
                ended.setdefault(name, number)
        finish_jobs(api)
        clock.seconds += ROUND_SECONDS
    return ended


def test_fourteen_runs_end_as_if_alone_beside_six_that_cannot(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered, clock: Clock
) -> None:
    submit(gateway, cpu_run, *HEALTHY)
    alone = rounds_to_the_end(Rounds(gateway, [], print, clock), api, clock, 10)
    assert set(alone) == set(HEALTHY)
    api.objects.clear()

    submit(gateway, cpu_run, *REFUSED, *HEALTHY, *DAMAGED)
    for name in DAMAGED:
        damage(api, name)
    api.admission = refuse_some
    lines: list[str] = []
    supervision = Rounds(gateway, [], lines.append, clock)
    ended = rounds_to_the_end(supervision, api, clock, HOUR_ROUNDS)
    assert ended == alone
    for name in (*REFUSED, *DAMAGED):
        starts = (f"{name}: cannot", f"the record of run {name} ")
        assert sum(line.startswith(starts) for line in lines) == 1
        assert any(doc["type"] == "Warning" for doc in gateway.events(name))
    rows = {row.run: row for row in runs_table.rows(gateway)}
    assert {name: rows[name].state for name in DAMAGED} == dict.fromkeys(DAMAGED, "unreadable")
    for name, (_, message) in REFUSED.items():
        assert rows[name].state == "pending"
        assert message.split(": ")[-1] in rows[name].reason
    tries = [path for verb, path, query in api.requests if verb == "POST" and path == TFJOBS]
    assert len(tries) < 2 * len(HEALTHY) + len(REFUSED) * 20  # in an hour


def test_a_refused_run_goes_on_when_the_cluster_takes_it(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered, clock: Clock
) -> None:
    supervision = refused(gateway, api, cpu_run, clock, "count-quota")
    rounds_to_the_end(supervision, api, clock, 30)
    assert record.read(gateway, "count-quota").state.refused_since == "2026-01-01T00:00:00+00:00"
    api.admission = lambda path, doc: None
    ended = rounds_to_the_end(supervision, api, clock, 60)
    assert ended.keys() == {"count-quota"}
    state = record.read(gateway, "count-quota").state
    assert (state.outcome, state.refused_since, state.reason) == ("succeeded", None, None)


def test_a_run_that_is_refused_for_a_day_fails_and_a_resume_tries_again(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered, clock: Clock
) -> None:
    supervision = refused(gateway, api, cpu_run, clock, "policy")
    assert rounds_to_the_end(supervision, api, clock, 3) == {}
    clock.seconds = LONGEST_REFUSAL.total_seconds() - 1
    assert rounds_to_the_end(supervision, api, clock, 1) == {}
    clock.seconds = LONGEST_REFUSAL.total_seconds() + 600
    assert rounds_to_the_end(Rounds(gateway, [], print, clock), api, clock, 1) == {"policy": 0}
    state = record.read(gateway, "policy").state
    assert state.outcome == "failed"
    assert "no latest tags" in (state.reason or "")
    api.admission = lambda path, doc: None
    supervise.resume(gateway, "policy")
    ended = rounds_to_the_end(Rounds(gateway, [], print, clock), api, clock, 10)
    assert ended.keys() == {"policy"}
    assert record.read(gateway, "policy").state.outcome == "succeeded"


def test_a_damaged_record_ends_a_supervision_of_named_runs_after_the_others(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered
) -> None:
    submit(gateway, cpu_run, "truncated", "run-00")
    damage(api, "truncated")

    def tell(line: str) -> None:
        finish_jobs(api)

    with pytest.raises(PermanentError, match=r"record of run truncated is damaged"):
        supervise.supervise(gateway, ["truncated", "run-00"], stay=False, tell=tell)
    assert record.read(gateway, "run-00").state.outcome == "succeeded"


def test_an_object_of_no_known_form_sets_only_its_run_back(
    gateway: Gateway, api: FakeApi, cpu_run: launch.Rendered, clock: Clock
) -> None:
    submit(gateway, cpu_run, "strange", "run-00")
    labels = {RUN_LABEL: "strange", STAGE_LABEL: "train"}
    api.put(
        f"{TFJOBS}/strange-train-x", {"metadata": {"name": "strange-train-x", "labels": labels}}
    )
    lines: list[str] = []
    ended = rounds_to_the_end(Rounds(gateway, [], lines.append, clock), api, clock, 10)
    assert ended.keys() == {"run-00"}
    assert any(line.startswith("strange: KeyError") for line in lines)
