"""The commands as a user types them: one JSON line, or one line on stderr and an exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.cli import main
from tests.pipeline.cluster.cluster_objects import JOBS, TFJOBS, condition, put_pod
from tests.pipeline.cluster.conftest import CPU
from tests.pipeline.cluster.fake_api import FakeApi

V1 = "/api/v1/namespaces/mobilenet"


@pytest.fixture
def platform(api: FakeApi) -> FakeApi:
    """Return a cluster with the platform installed."""
    for path in ("serviceaccounts/pipeline", "persistentvolumeclaims/data"):
        api.put(f"{V1}/{path}", {})
    return api


def ran(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Return the JSON that a command prints, or its last line on stderr if it must fail."""
    capsys.readouterr()
    assert main(list(arguments)) == code
    printed = capsys.readouterr()
    if code:
        assert not printed.out
        return printed.err.splitlines()[-1]
    return json.loads(printed.out)


def test_a_run_from_launch_to_stop_to_resume(
    platform: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(platform.objects)
    assert ran(capsys, *CPU, "--dry-run") == {"checked": ["run"]}
    assert set(platform.objects) == before
    for _ in range(2):  # the same command again finds the same run
        assert ran(capsys, *CPU, "--detach") == {"runs": ["run"], "state": "submitted"}
    (row,) = ran(capsys, "jobs", "--format=json")["runs"]
    assert (row["run"], row["layout"], row["state"]) == ("run", "2xcpu", "pending")
    assert ran(capsys, "stop", "run")["state"] == "stopped"
    assert ran(capsys, "resume", "run", "--detach")["state"] == "train submitted"
    assert main(["jobs"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0].startswith("TensorBoard http://localhost:6006")
    header, line = shown.out.splitlines()
    assert header.split()[:4] == ["run", "layout", "stage", "state"]
    assert line.split()[:3] == ["run", "2xcpu", "train"]


def test_watch_ends_with_the_exit_code_of_the_stage_that_failed(
    platform: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(capsys, *CPU, "--detach")
    ran(capsys, "stop", "run")
    ran(capsys, "resume", "run", "--detach")
    from pipeline.cluster.api.gateway import Gateway
    from pipeline.cluster.supervise import Supervisor

    Supervisor(Gateway("mobilenet"), lambda line: None).advance("run")
    put_pod(platform, "run-train-1", 0, 4)
    condition(platform, f"{TFJOBS}/run-train-1", "Failed")
    line = ran(capsys, "watch", "run", code=4)
    assert "run run failed: run-train-1-worker-0 ended with exit code 4" in line
    assert not [path for path in platform.objects if path.startswith(JOBS)]


def test_a_priority_that_the_cluster_lacks_is_refused_before_a_run_waits_for_ever(
    platform: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    queued = (*CPU, "--queue", "--priority=mobilenet-urgent", "--detach")
    platform.put("/apis/kueue.x-k8s.io/v1beta2/namespaces/mobilenet/localqueues/mobilenet", {})
    line = ran(capsys, *queued, code=2)
    assert "--priority mobilenet-urgent" in line
    assert not [path for path in platform.objects if path.endswith("/configmaps/run")]
    classes = "/apis/kueue.x-k8s.io/v1beta2/workloadpriorityclasses"
    platform.put(f"{classes}/mobilenet-urgent", {})
    assert ran(capsys, *queued) == {"runs": ["run"], "state": "submitted"}


def test_mistakes_are_one_line_and_2(
    platform: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, words in (
        (["stop", "nobody"], "no run nobody"),
        (["watch", "nobody"], "no run nobody"),
        (["logs", "nobody"], "no run nobody"),
        ([*CPU, "--price-per-hour=1"], "--images-per-second"),
    ):
        assert words in ran(capsys, *arguments, code=2)
    platform.missing_groups = {"kubeflow.org"}
    assert "install the Training Operator" in ran(capsys, *CPU, "--dry-run", code=2)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert "no cluster" in ran(capsys, "jobs", code=2)


def test_a_cluster_that_is_away_is_143_so_that_it_is_tried_again(
    platform: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.failures.put((0, ""))
    assert "does not answer" in ran(capsys, "jobs", code=143)
