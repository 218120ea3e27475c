"""Runs come to their end, whatever happens to the cluster and the launcher.

A few lines here play the operator, which sets a job's status. The real one, with real pods, is in
tests/cluster.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
from typing import Any

import pytest

from pipeline.cli.entry_point import parse
from pipeline.cluster import launch, record, supervise
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.refusals import NameTakenError
from pipeline.cluster.status import logs, runs_table
from preprocessing.errors import PermanentError, UsageError
from tests.pipeline.cluster.cluster_objects import JOBS, NAMESPACE, TFJOBS, condition, put_pod
from tests.pipeline.cluster.conftest import CPU, rendered
from tests.pipeline.cluster.fake_api import FakeApi


@pytest.fixture
def submitted(gateway: Gateway, cpu_run: launch.Rendered) -> record.Record:
    """Return a run whose record is on the cluster."""
    return launch.submit(gateway, cpu_run)


def jobs(api: FakeApi) -> list[str]:
    """Return names of all jobs on the cluster."""
    return [
        path.rpartition("/")[2] for path in sorted(api.objects) if path.startswith((TFJOBS, JOBS))
    ]


class Operator(threading.Thread):
    """An operator that lets every new job succeed, except those that it is told to fail."""

    def __init__(self, api: FakeApi, fails: set[str]) -> None:
        super().__init__(daemon=True)
        self.api, self.fails, self.stopped = api, fails, threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            with self.api.changed:
                for path, doc in list(self.api.objects.items()):
                    if path.startswith((TFJOBS, JOBS)) and "status" not in doc:
                        kind = "Complete" if path.startswith(JOBS) else "Succeeded"
                        name = path.rpartition("/")[2]
                        condition(self.api, path, "Failed" if name in self.fails else kind)
                self.api.changed.wait(0.1)


@pytest.fixture
def operator(api: FakeApi) -> Any:
    """Start the operator."""
    started: list[Operator] = []

    def start(*fails: str) -> None:
        started.append(Operator(api, set(fails)))
        started[0].start()

    yield start
    for thread in started:
        thread.stopped.set()
        thread.join()


def test_a_run_passes_all_its_stages(
    gateway: Gateway, api: FakeApi, submitted: record.Record, operator: Any
) -> None:
    operator()
    (ended,) = supervise.supervise(gateway, ["run"], stay=False, tell=lambda line: None)
    assert ended.state.outcome == "succeeded"
    assert jobs(api) == ["run-evaluate-1", "run-export-1", "run-publish-1", "run-train-1"]


def test_a_disrupted_attempt_is_followed_by_another(
    gateway: Gateway, api: FakeApi, submitted: record.Record, operator: Any
) -> None:
    operator("run-train-1", "run-export-1")
    (ended,) = supervise.supervise(gateway, ["run"], stay=False, tell=lambda line: None)
    assert ended.state.outcome == "succeeded"
    assert [job for job in jobs(api) if "train" in job] == ["run-train-1", "run-train-2"]
    assert [job for job in jobs(api) if "export" in job] == ["run-export-1", "run-export-2"]


def test_answers_that_fail_are_survived(
    gateway: Gateway, api: FakeApi, submitted: record.Record, operator: Any
) -> None:
    """The SDK's own wait ends at the first of them."""
    operator()
    for status in (500, 0, 401, 429, 503):
        api.failures.put((status, '{"kind": "Status", "message": "away"}'))
    lines: list[str] = []
    (ended,) = supervise.supervise(gateway, ["run"], stay=False, tell=lines.append)
    assert ended.state.outcome == "succeeded"
    assert api.failures.empty()


def test_every_launcher_may_die_anywhere_and_another_goes_on(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    """A new supervisor, which knows nothing, makes each step."""
    for stage in submitted.spec.stages:
        for _ in range(3):
            supervise.Supervisor(gateway, lambda line: None).advance("run")
        path = f"{TFJOBS if stage == 'train' else JOBS}/run-{stage}-1"
        condition(api, path, "Succeeded" if stage == "train" else "Complete")
    ended = supervise.Supervisor(gateway, lambda line: None).advance("run")
    assert ended.state.outcome == "succeeded"
    assert len(jobs(api)) == 4


def test_two_supervisors_at_once_submit_each_attempt_once(
    gateway: Gateway, api: FakeApi, submitted: record.Record, operator: Any
) -> None:
    operator("run-train-1")
    others = [
        threading.Thread(
            target=supervise.supervise,
            args=(Gateway("mobilenet"), ["run"]),
            kwargs={"stay": False, "tell": lambda line: None},
        )
        for _ in range(3)
    ]
    for other in others:
        other.start()
    for thread in others:
        thread.join(60)
        assert not thread.is_alive()
    assert record.read(gateway, "run").state.outcome == "succeeded"
    assert len(jobs(api)) == 5


def test_a_budget_belongs_to_its_job_and_names_its_pods(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    for _ in range(2):
        supervise.Supervisor(gateway, lambda line: None).advance("run")
    (path,) = (object_path for object_path in api.objects if "poddisruptionbudgets" in object_path)
    (owner,) = api.objects[path]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("TFJob", "run-train-1")
    assert owner["uid"] == api.objects[f"{TFJOBS}/run-train-1"]["metadata"]["uid"]


def test_stop_suspends_and_resume_goes_on(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    supervisor = supervise.Supervisor(gateway, lambda line: None)
    supervisor.advance("run")
    policy = lambda: api.objects[f"{TFJOBS}/run-train-1"]["spec"]["runPolicy"]  # noqa: E731
    assert policy()["suspend"] is False
    assert supervise.stop(gateway, "run").state.stopped
    assert policy()["suspend"] is True
    supervisor.advance("run")
    assert policy()["suspend"] is True
    supervise.resume(gateway, "run")
    supervisor.advance("run")
    assert policy()["suspend"] is False


def test_a_permanent_failure_ends_the_run_until_it_is_resumed(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    supervisor = supervise.Supervisor(gateway, lambda line: None)
    supervisor.advance("run")
    put_pod(api, "run-train-1", 1, 2)
    condition(api, f"{TFJOBS}/run-train-1", "Failed")
    failed = supervisor.advance("run")
    assert (failed.state.outcome, failed.state.exit_code) == ("failed", 2)
    assert jobs(api) == ["run-train-1"]
    supervise.resume(gateway, "run")
    supervisor.advance("run")
    assert jobs(api) == ["run-train-1", "run-train-2"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                    }
                ],
            },
            "unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "name": "tensorflow",
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no x:1"}},
                    }
                ],
            },
            "image not pullable: no x:1",
        ),
    ],
    ids=["unschedulable", "image"],
)
def test_what_hinders_a_run_is_said(
    gateway: Gateway,
    api: FakeApi,
    submitted: record.Record,
    status: dict[str, Any],
    words: str,
) -> None:
    lines: list[str] = []
    supervisor = supervise.Supervisor(gateway, lines.append)
    supervisor.advance("run")
    put_pod(api, "run-train-1", 0, None, **status)
    supervisor.advance("run")
    assert words in lines[-1]
    (row,) = runs_table.rows(gateway)
    assert words in row.reason


def test_how_long_the_workers_wait_for_how_many_others_is_said(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    lines: list[str] = []
    supervisor = supervise.Supervisor(gateway, lines.append)
    supervisor.advance("run")
    unschedulable = {"type": "PodScheduled", "status": "False", "message": "no node is free"}
    put_pod(api, "run-train-1", 0, None)
    put_pod(api, "run-train-1", 1, None, phase="Pending", conditions=[unschedulable])
    supervisor.advance("run")
    words = "waiting for 1 of 2 workers since 2026-01-01 00:00 UTC; run-train-1-worker-1: unsched"
    assert words in lines[-1]
    (row,) = runs_table.rows(gateway)
    assert words in row.reason


def test_a_quota_that_is_used_up_is_said(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    supervise.Supervisor(gateway, lambda line: None).advance("run")
    api.put(
        f"/api/v1{NAMESPACE}/events/e",
        {
            "metadata": {"name": "e"},
            "involvedObject": {"name": "run-train-1"},
            "type": "Warning",
            "reason": "FailedCreatePod",
            "message": 'pods "x" is forbidden: exceeded quota: gpus, requested: 4, used: 8',
        },
    )
    (row,) = runs_table.rows(gateway)
    assert row.reason == "no quota: gpus, requested: 4, used: 8"


def test_launching_the_same_again_finds_the_run_and_another_is_refused(
    gateway: Gateway, cpu_run: launch.Rendered, submitted: record.Record
) -> None:
    assert launch.submit(gateway, cpu_run).source == submitted.source
    with pytest.raises(NameTakenError, match="choose another --name"):
        launch.submit(gateway, rendered("--set=seed=7"))


@pytest.mark.parametrize("moment", ["before", "running", "stopped"])
def test_a_run_launched_again_from_a_repaired_overlay_uses_what_was_repaired(
    gateway: Gateway,
    api: FakeApi,
    cpu_run: launch.Rendered,
    submitted: record.Record,
    caplog: pytest.LogCaptureFixture,
    moment: str,
) -> None:
    def image() -> str:
        job = api.objects[f"{TFJOBS}/run-train-1"]
        worker = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
        return str(worker["containers"][0]["image"])

    if moment != "before":
        supervise.Supervisor(gateway, lambda line: None).advance("run")
        assert image() != "repaired:2"
    if moment == "stopped":
        supervise.stop(gateway, "run")
    repaired = copy.deepcopy(cpu_run)
    for replica in repaired.record.stages["train"][0]["spec"]["tfReplicaSpecs"].values():
        replica["template"]["spec"]["containers"][0]["image"] = "repaired:2"
    limits = dataclasses.replace(repaired.record.limits, deadline_hours=7.0)
    repaired = dataclasses.replace(
        repaired, record=dataclasses.replace(repaired.record, limits=limits)
    )
    caplog.clear()
    launch.submit(gateway, repaired)
    (message,) = [entry.message for entry in caplog.records]
    assert 'image ("' in message
    assert '-> "repaired:2")' in message
    assert "limits.deadline_hours (null -> 7.0)" in message
    if moment != "before":
        supervise.stop(gateway, "run")
        supervise.resume(gateway, "run")
    supervise.Supervisor(gateway, lambda line: None).advance("run")
    assert image() == "repaired:2"
    assert record.read(gateway, "run").limits.deadline_hours == 7.0
    caplog.clear()
    launch.submit(gateway, repaired)
    assert not caplog.records


def test_a_run_that_succeeded_stays_as_it_was(
    gateway: Gateway, cpu_run: launch.Rendered, submitted: record.Record
) -> None:
    record.write(gateway, submitted.with_state(outcome="succeeded"))
    limits = dataclasses.replace(cpu_run.record.limits, deadline_hours=7.0)
    again = dataclasses.replace(cpu_run, record=dataclasses.replace(cpu_run.record, limits=limits))
    assert launch.submit(gateway, again).limits.deadline_hours is None


def test_a_missing_platform_is_refused_with_the_command_that_installs_it(
    gateway: Gateway, cpu_run: launch.Rendered
) -> None:
    with pytest.raises(UsageError, match=r"no PersistentVolumeClaim data; .*kubectl apply"):
        launch.check(gateway, cpu_run)


def test_the_table_shows_what_the_chief_said(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    supervise.Supervisor(gateway, lambda line: None).advance("run")
    for index in (0, 1):
        put_pod(api, "run-train-1", index, None)
    api.logs["run-train-1-worker-0"] = (
        "train: step 435/449  loss 0.5882  top-1 0.9882  learning rate 0.00229  "
        "817 images/s  ETA 2 s  validation top-1 0.9889\n"
    )
    (row,) = runs_table.rows(gateway)
    assert (row.state, row.step, row.loss) == ("running", "435/449", "0.5882")
    assert (row.images_per_second, row.eta) == ("817", "0:00:02")


def test_logs_name_the_worker_that_said_it(
    gateway: Gateway, api: FakeApi, submitted: record.Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """The SDK shows only worker 0, and names others wrongly while one is pending."""
    supervise.Supervisor(gateway, lambda line: None).advance("run")
    put_pod(api, "run-train-1", 0, None, phase="Pending")
    put_pod(api, "run-train-1", 1, None)
    api.logs["run-train-1-worker-1"] = "one\ntwo\n"
    logs.tail(gateway, "run", "train", None, 10)
    assert capsys.readouterr().out == "[1] one\n[1] two\n"
    with pytest.raises(UsageError, match="worker 5"):
        logs.tail(gateway, "run", "train", 5, 10)


def test_a_run_whose_record_is_deleted_is_left_alone_and_the_others_are_not(
    gateway: Gateway, api: FakeApi, submitted: record.Record, operator: Any
) -> None:
    (other,) = launch.from_arguments(parse([*CPU, "--name=other"]))
    launch.submit(gateway, other)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if line == "run: submitted train, attempt 1":
            gateway.delete("ConfigMap", "run")
            operator()

    with pytest.raises(PermanentError, match=r"run run: its record was deleted.*kubectl delete"):
        supervise.supervise(gateway, ["run", "other"], stay=False, tell=tell)
    assert record.read(gateway, "other").state.outcome == "succeeded"
    assert sum("its record was deleted" in line for line in lines) == 1
    assert [job for job in jobs(api) if job.startswith("run-")] == ["run-train-1"]


def test_a_supervisor_of_all_runs_survives_that_one_is_deleted(
    gateway: Gateway, api: FakeApi, submitted: record.Record
) -> None:
    def tell(line: str) -> None:
        if line == "run: submitted train, attempt 1":
            gateway.delete("ConfigMap", "run")

    assert supervise.supervise(gateway, [], stay=False, tell=tell) == []


def test_an_unknown_run_is_named(gateway: Gateway) -> None:
    with pytest.raises(UsageError, match="no run nobody"):
        supervise.stop(gateway, "nobody")
