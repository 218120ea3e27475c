"""8 GPUs in three layouts on a simulated node: admitted, scheduled, named, restarted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.access import NAMESPACE, AnyCluster, until
from tests.cluster.simulated import NODE, exits, gpu_node, workers
from training.workers import indexed_job

LAYOUTS = {"8x1": 8, "2x4": 2, "1x8": 1}


@pytest.fixture(scope="module")
def gpus(any_platform: AnyCluster) -> Iterator[AnyCluster]:
    """Provide the cluster with one node of 8 GPUs."""
    with gpu_node(any_platform, NODE) as cluster:
        yield cluster


@pytest.fixture
def job(gpus: AnyCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Provide a launched run whose workers all run, by its layout; gone after the test."""
    yield from launched(gpus, request.param, f"gpus-{request.param}")


@pytest.fixture
def jobset(gpus: AnyCluster) -> Iterator[str]:
    """Provide the same for a run without the Training Operator, of two workers."""
    gpus.require("jobsets")
    yield from launched(gpus, "2x4", "set-2x4", "--backend=jobset")


def launched(cluster: AnyCluster, layout: str, run: str, *flags: str) -> Iterator[str]:
    """Launch a run; once its workers run give its name, then take it away."""
    done = cluster.mobilenet(
        *("launch", "--variant=mobilenet_v2_1.0_224", "--overlay=local", "--gpus=8"),
        *(f"--layout={layout}", f"--name={run}", "--detach", "--max-attempts=1", *flags),
    )
    assert done.code == 0, done.err
    until("all workers run", lambda: len(workers(cluster, run, "Running")) == LAYOUTS[layout])
    yield run
    cluster.mobilenet("stop", run)  # so that no supervisor, halfway through, submits it once more

    def gone() -> bool:
        for kind in filter(cluster.serves, ("tfjobs", "jobsets")):
            for job in cluster.jobs(kind, run):
                cluster.api.delete(f"{cluster.path(kind)}/{job['metadata']['name']}")
        return not cluster.jobs("pods", run)

    until("its pods are gone", gone)
    cluster.api.delete(f"{cluster.path('configmaps')}/{run}")  # its record


@pytest.mark.parametrize("job", LAYOUTS, indirect=True)
def test_workers_are_admitted_scheduled_and_told_who_they_are(gpus: AnyCluster, job: str) -> None:
    layout = job.split("-")[1]
    namespace = gpus.api.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = workers(gpus, job, "Running")
    assert {pod["spec"]["nodeName"] for pod in pods} == {NODE}
    names = [f"{job}-train-1-worker-{index}.{NAMESPACE}.svc:2222" for index in range(len(pods))]
    for index, pod in enumerate(pods):
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == str(8 // LAYOUTS[layout])
        configs = [
            variable["value"] for variable in container["env"] if variable["name"] == "TF_CONFIG"
        ]
        expected = {
            "cluster": {"worker": names},
            "task": {"type": "worker", "index": index},
            "environment": "cloud",
        }
        assert [json.loads(config) for config in configs] == ([expected] if len(pods) > 1 else [])


@pytest.mark.parametrize("job", ["2x4"], indirect=True)
def test_exit_code_143_restarts_the_worker(gpus: AnyCluster, job: str) -> None:
    first, second = workers(gpus, job)
    exits(gpus, second, 143)

    def replaced() -> bool:
        pods = workers(gpus, job, "Running")
        return len(pods) == 2 and pods[1]["metadata"]["uid"] != second["metadata"]["uid"]

    until("the operator makes a new worker", replaced)
    assert workers(gpus, job)[0]["metadata"]["uid"] == first["metadata"]["uid"]
    (tfjob,) = gpus.jobs("tfjobs", job)
    kinds = {condition["type"] for condition in tfjob["status"]["conditions"]}
    assert "Restarting" in kinds or tfjob["status"]["replicaStatuses"]["Worker"].get("active") == 2
    assert "Failed" not in kinds


@pytest.mark.parametrize("job", ["2x4"], indirect=True)
def test_exit_code_3_fails_the_job_for_good(gpus: AnyCluster, job: str) -> None:
    exits(gpus, workers(gpus, job)[0], 3)
    watched = gpus.mobilenet("watch", job)
    assert watched.code == 3, watched.err
    (tfjob,) = gpus.jobs("tfjobs", job)
    assert any(
        condition["type"] == "Failed" and condition["status"] == "True"
        for condition in tfjob["status"]["conditions"]
    )


def test_pods_of_a_jobset_can_tell_who_they_are(gpus: AnyCluster, jobset: str) -> None:
    pods = workers(gpus, jobset, "Running")
    assert {pod["spec"]["nodeName"] for pod in pods} == {NODE}
    told = []
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        fields = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        assert "TF_CONFIG" not in fields
        fields["JOB_COMPLETION_INDEX"] = pod["metadata"]["labels"][
            "batch.kubernetes.io/job-completion-index"
        ]
        told.append(json.loads(indexed_job.tf_config(fields)))
        assert (
            f"{pod['spec']['hostname']}.{pod['spec']['subdomain']}:2222"
            == (told[-1]["cluster"]["worker"][told[-1]["task"]["index"]])
        )
    assert [config["task"]["index"] for config in told] == [0, 1]


def test_exit_code_143_restarts_all_pods_of_a_jobset(gpus: AnyCluster, jobset: str) -> None:
    before = {pod["metadata"]["uid"] for pod in workers(gpus, jobset)}
    exits(gpus, workers(gpus, jobset)[1], 143)

    def replaced() -> bool:
        running = {pod["metadata"]["uid"] for pod in workers(gpus, jobset, "Running")}
        return len(running) == 2 and not running & before

    until("both are new", replaced)
    (found,) = gpus.jobs("jobsets", jobset)
    assert found["status"]["restarts"] == 1


def test_exit_code_3_fails_a_jobset_for_good(gpus: AnyCluster, jobset: str) -> None:
    exits(gpus, workers(gpus, jobset)[0], 3)
    watched = gpus.mobilenet("watch", jobset)
    assert watched.code == 3, watched.err
    (found,) = gpus.jobs("jobsets", jobset)
    assert found["status"].get("restarts", 0) == 0
