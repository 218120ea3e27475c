"""8 GPUs in three layouts on a simulated node: admitted, scheduled, named, restarted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.api import Object
from tests.cluster.conftest import NAMESPACE, Cluster, fake_node, until

LAYOUTS = {"8x1": 8, "2x4": 2, "1x8": 1}
NODE = "gpu-0"
FAIL = "pod-container-running-failed.stage.kwok.x-k8s.io"


@pytest.fixture(scope="module")
def gpus(platform: Cluster) -> Iterator[Cluster]:
    """The cluster with one node of 8 GPUs."""
    with fake_node(platform, NODE):
        yield platform


@pytest.fixture
def job(gpus: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A launched run whose workers all run, by its layout; gone after the test."""
    layout: str = request.param
    run = f"gpus-{layout}-{request.node.name.split('_')[1]}"
    launched = gpus.mobilenet(
        *("launch", "--variant=mobilenet_v2_1.0_224", "--overlay=local", "--gpus=8"),
        *(f"--layout={layout}", f"--name={run}", "--detach", "--max-attempts=1"),
    )
    assert launched.code == 0, launched.err
    until("all workers run", lambda: len(workers(gpus, run, "Running")) == LAYOUTS[layout])
    yield run
    gpus.api.delete(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{run}")  # its record: not again
    for each in gpus.jobs("tfjobs", run):
        name = each["metadata"]["name"]
        gpus.api.delete(f"/apis/kubeflow.org/v1/namespaces/{NAMESPACE}/tfjobs/{name}")
    until("its pods are gone", lambda: not gpus.jobs("pods", run))


def workers(cluster: Cluster, run: str, phase: str = "") -> list[Object]:
    """The run's pods in a phase, by worker."""
    found = [
        pod
        for pod in cluster.jobs("pods", run)
        if not phase or pod.get("status", {}).get("phase") == phase
    ]
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


def exits(cluster: Cluster, pod: Object, code: int) -> None:
    """Let a simulated container end."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}"
    changed = {
        "labels": {FAIL: "true"},
        "annotations": {f"{FAIL}/exit-code": str(code), f"{FAIL}/delay": "0s"},
    }
    cluster.api.patch(path, {"metadata": {"uid": pod["metadata"]["uid"], **changed}})


@pytest.mark.parametrize("job", LAYOUTS, indirect=True)
def test_workers_are_admitted_scheduled_and_told_who_they_are(gpus: Cluster, job: str) -> None:
    layout = job.split("-")[1]
    namespace = gpus.api.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = workers(gpus, job, "Running")
    assert {pod["spec"]["nodeName"] for pod in pods} == {NODE}
    names = [f"{job}-train-1-worker-{each}.{NAMESPACE}.svc:2222" for each in range(len(pods))]
    for index, pod in enumerate(pods):
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == str(8 // LAYOUTS[layout])
        configs = [each["value"] for each in container["env"] if each["name"] == "TF_CONFIG"]
        expected = {
            "cluster": {"worker": names},
            "task": {"type": "worker", "index": index},
            "environment": "cloud",
        }
        assert [json.loads(each) for each in configs] == ([expected] if len(pods) > 1 else [])


@pytest.mark.parametrize("job", ["2x4"], indirect=True)
def test_exit_code_143_restarts_the_worker(gpus: Cluster, job: str) -> None:
    first, second = workers(gpus, job)
    exits(gpus, second, 143)

    def replaced() -> bool:
        pods = workers(gpus, job, "Running")
        return len(pods) == 2 and pods[1]["metadata"]["uid"] != second["metadata"]["uid"]

    until("the operator makes a new worker", replaced)
    assert workers(gpus, job)[0]["metadata"]["uid"] == first["metadata"]["uid"]
    (tfjob,) = gpus.jobs("tfjobs", job)
    kinds = {each["type"] for each in tfjob["status"]["conditions"]}
    assert "Restarting" in kinds or tfjob["status"]["replicaStatuses"]["Worker"].get("active") == 2
    assert "Failed" not in kinds


@pytest.mark.parametrize("job", ["2x4"], indirect=True)
def test_exit_code_3_fails_the_job_for_good(gpus: Cluster, job: str) -> None:
    exits(gpus, workers(gpus, job)[0], 3)
    watched = gpus.mobilenet("watch", job)
    assert watched.code == 3, watched.err
    (tfjob,) = gpus.jobs("tfjobs", job)
    assert any(
        each["type"] == "Failed" and each["status"] == "True"
        for each in tfjob["status"]["conditions"]
    )
