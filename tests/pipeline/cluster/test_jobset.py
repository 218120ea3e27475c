"""JobSet runs the same pods, told apart by their index instead of TF_CONFIG."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from unittest import mock

import pytest

from pipeline.cluster import render
from preprocessing import errors
from preprocessing.errors import PERMANENT_EXIT_CODES, UsageError
from tests.pipeline.cluster.rendering import first, gpu_run
from training.workers.cluster import Cluster

ADDED = {"MOBILENET_WORKERS", "MOBILENET_WORKER_ADDRESS"}


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Keep the variables that a pod sets for TensorFlow from other tests."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.parametrize(("layout", "workers"), [("1x8", 1), ("2x4", 2), ("8x1", 8)])
def test_both_renderers_run_the_same_pods(layout: str, workers: int) -> None:
    tfjob, jobset = (
        first(gpu_run(layout, f"--backend={backend}"), "train") for backend in ("tfjob", "jobset")
    )
    assert (tfjob["kind"], jobset["kind"]) == ("TFJob", "JobSet")
    assert jobset["metadata"]["labels"] == tfjob["metadata"]["labels"]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completions"], job["parallelism"]) == (workers, workers)
    pod, same = render.pod_template(jobset), render.pod_template(tfjob)
    assert pod is not None
    assert same is not None
    container = pod["spec"]["containers"][0]
    added = [variable for variable in container["env"] if variable["name"] in ADDED]
    assert {variable["name"] for variable in added} == ADDED
    container["env"] = [variable for variable in container["env"] if variable["name"] not in ADDED]
    assert pod["spec"].pop("restartPolicy") == "Never"
    assert pod == same


@pytest.mark.parametrize(("layout", "workers"), [("2x4", 2), ("8x1", 8)])
def test_each_pod_makes_the_tf_config_that_the_operator_would(
    layout: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names follow JobSet's documentation: JOBSET-JOB-0-INDEX.JOBSET."""
    pod = render.pod_template(first(gpu_run(layout, "--backend=jobset"), "train"))
    assert pod is not None
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for variable in pod["spec"]["containers"][0]["env"]:
        if variable["name"] in ADDED:
            monkeypatch.setenv(variable["name"], variable["value"])
    peers = [f"run-train-1-worker-0-{worker}.run-train-1:2222" for worker in range(workers)]
    for index in range(workers):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        monkeypatch.delenv("TF_CONFIG", raising=False)
        cluster = Cluster.from_environment()
        assert (list(cluster.workers), cluster.index) == (peers, index)
        assert json.loads(os.environ["TF_CONFIG"]) == {
            "cluster": {"worker": peers},
            "task": {"type": "worker", "index": index},
            "environment": "cloud",
        }


def test_one_worker_alone_has_no_tf_config_as_with_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("MOBILENET_WORKERS", "1")
    monkeypatch.setenv("MOBILENET_WORKER_ADDRESS", "w-{index}:2222")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert len(Cluster.from_environment().workers) == 1
    assert "TF_CONFIG" not in os.environ


@pytest.mark.parametrize(
    ("address", "index"), [("w-{index}:2222", ""), ("w:2222", "0"), ("w-{index}:2222", "2")]
)
def test_a_pod_of_no_indexed_job_is_told_so(
    address: str, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("MOBILENET_WORKERS", "2")
    monkeypatch.setenv("MOBILENET_WORKER_ADDRESS", address)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
    with pytest.raises(UsageError, match="JOB_COMPLETION_INDEX"):
        Cluster.from_environment()


def test_the_permanent_exit_codes_are_those_of_the_command_line() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.PermanentError)}
    assert codes == set(PERMANENT_EXIT_CODES)
    job = first(gpu_run("2x4", "--backend=jobset"), "train")["spec"]["replicatedJobs"][0]
    (rule,) = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == PERMANENT_EXIT_CODES
    prepare = first(gpu_run("2x4"), "publish")
    values = [
        rule["onExitCodes"]["values"]
        for rule in prepare["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    ]
    assert values == [PERMANENT_EXIT_CODES]
