"""Whole runs on a cluster: real operator, real processes, real training, and many disturbances."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.access import NAMESPACE, until
from tests.cluster.api import Object
from tests.cluster.own import REAL_NODES, Cluster
from tests.cluster.runs import LONG, conditions, final_weights, launching, step
from tests.shallow_family import VARIANT


def test_archives_become_records_and_a_trained_evaluated_registered_and_published_model(
    platform: Cluster, whole: str
) -> None:
    state = platform.state(whole)
    assert state["outcome"] == "succeeded", (state, platform.log(f"{whole}-"))
    assert state["done"] == ["prepare", "train", "evaluate", "export", "publish"]
    (job,) = platform.jobs("tfjobs", whole)
    assert "Succeeded" in conditions(job)
    assert job["status"]["replicaStatuses"]["Worker"]["succeeded"] == 2
    for worker in range(2):
        pod = f"{whole}-train-1-worker-{worker}"
        described = platform.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}")
        assert described["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
        assert described["spec"]["nodeName"] in REAL_NODES
    table = platform.mobilenet("table", f"--published={platform.data / 'published'}")
    assert f"[{VARIANT}]" in table.out
    from mlflow import MlflowClient

    database = platform.data / "registry" / "mlflow.db"
    versions = MlflowClient(f"sqlite:///{database}").search_model_versions(f"name='{VARIANT}'")
    assert len(versions) == 1


def test_both_workers_trained_together(platform: Cluster, whole: str) -> None:
    # At 48 images a replica: one worker alone would take twice as many steps.
    assert f"train: step {LONG}/{LONG}" in platform.log(f"{whole}-train-1-worker-0")
    for worker in range(2):
        pod = pod_of(platform, f"{whole}-train-1-worker-{worker}")
        environment = {
            variable["name"]: variable.get("value")
            for variable in pod["spec"]["containers"][0]["env"]
        }
        assert json.loads(environment["TF_CONFIG"] or "") == {
            "cluster": {
                "worker": [f"{whole}-train-1-worker-{i}.{NAMESPACE}.svc:2222" for i in range(2)]
            },
            "task": {"type": "worker", "index": worker},
            "environment": "cloud",
        }


def test_its_state_its_log_and_the_health_of_the_cluster_are_shown(
    platform: Cluster, whole: str
) -> None:
    shown = platform.mobilenet("jobs", "--format=json")
    (row,) = (run for run in shown.result["runs"] if run["run"] == whole)
    assert (row["state"], row["restarts"]) == ("succeeded", 0)
    shown = platform.mobilenet("logs", whole, "--stage=train", "--worker=0", "--tail=3")
    assert f"train: step {LONG}/{LONG}" in shown.out
    healthy = platform.mobilenet("doctor", "--overlay=local")
    assert healthy.code == 0, healthy.err
    assert "tfjobs.kubeflow.org v1." in healthy.err


def test_two_workers_train_without_the_training_operator(platform: Cluster, whole: str) -> None:
    launched = platform.mobilenet(*launching("set", 20, "--backend=jobset", "--detach"))
    assert launched.code == 0, launched.err
    until("it is trained", lambda: platform.is_over("set", "train"))
    stopped = platform.mobilenet("stop", "set")
    assert stopped.code == 0, stopped.err
    assert "train" in platform.state("set")["done"], platform.log("set-train-*")
    assert "train: step 20/20" in platform.log("set-train-1-worker-0-0-*")
    assert not platform.jobs("tfjobs", "set")


class Launcher:
    """A `mobilenet launch` in the foreground, which tests kill and start again."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self._cluster, self._log, self._name = cluster, folder / "launcher.log", name
        self.start()

    def start(self) -> None:
        """Start the launcher, or start it again."""
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *launching(self._name, LONG)],
                env=self._cluster.environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Kill the launcher."""
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """Everything that the launcher printed."""
        return self._log.read_text()


@pytest.fixture
def alone(platform: Cluster) -> Iterator[Cluster]:
    """Provide the cluster without its supervisor: only the launcher looks after runs."""
    scale = ("scale", "-n", NAMESPACE, "deployment/supervisor")
    platform.kubectl(*scale, "--replicas=0")
    yield platform
    platform.kubectl(*scale, "--replicas=1")


def pod_of(cluster: Cluster, name: str) -> Object:
    """Return a pod that must exist."""
    found: Object = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
    return found


def test_a_run_disturbed_in_every_way_ends_with_the_weights_of_the_undisturbed(
    alone: Cluster, whole: str, tmp_path: Path
) -> None:
    cluster, run = alone, "disturbed"
    launcher = Launcher(cluster, tmp_path, run)

    def trains_on(what: str) -> None:
        """Wait for a new checkpoint, so that each disturbance meets a run that trains."""
        before = step(cluster.data, run)
        until(f"training goes on {what}", lambda: step(cluster.data, run) > before)
        assert step(cluster.data, run) < LONG, f"the run ended {what}: nothing was left to disturb"

    try:
        trains_on("at first")
        _kill_a_worker(cluster, run)
        trains_on("after SIGKILL of a worker")
        _restart_the_api_server(cluster)
        launcher.kill()
        trains_on("without API server and launcher")
        launcher.start()
        trains_on("with another launcher")
        _stop(cluster, run)
        assert launcher.process.wait(60) == 0, launcher.log
        resumed = cluster.mobilenet("resume", run, "--detach")
        assert resumed.code == 0, resumed.err
        launcher.start()
        trains_on("after a stop")
        cluster.kubectl("delete", "pod", "-n", NAMESPACE, _live(cluster, run)[0])
        until("it is resubmitted", lambda: len(cluster.jobs("tfjobs", run)) == 2)
        trains_on("after kubectl delete pod")
        _drain_a_node(cluster, run)
        trains_on("after the drain")
        assert launcher.process.wait(800) == 0, launcher.log
    finally:
        launcher.kill()
    assert final_weights(cluster.data, run) == final_weights(cluster.data, whole)
    assert "Succeeded" in conditions(cluster.jobs("tfjobs", run)[-1])


def _live(cluster: Cluster, run: str) -> list[str]:
    """Return the run's training pods that run."""
    return [
        pod["metadata"]["name"]
        for pod in cluster.jobs("pods", run)
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


def _kill_a_worker(cluster: Cluster, run: str) -> None:
    name = f"{run}-train-1-worker-1"
    before = pod_of(cluster, name)["metadata"]["uid"]
    os.kill(cluster.process(name), signal.SIGKILL)
    until(
        "the operator replaces the worker",
        lambda: any(
            pod["metadata"]["uid"] != before and pod["metadata"]["name"] == name
            for pod in cluster.jobs("pods", run)
        ),
    )
    (job,) = cluster.jobs("tfjobs", run)
    assert "Failed" not in conditions(job)


def _restart_the_api_server(cluster: Cluster) -> None:
    cluster.plane.api_server.stop()
    cluster.plane.api_server.start()
    cluster.plane.wait_for_api()


def _stop(cluster: Cluster, run: str) -> None:
    stopped = cluster.mobilenet("stop", run)
    assert stopped.code == 0, stopped.err
    until("its pods are gone", lambda: not cluster.jobs("pods", run))


def _drain_a_node(cluster: Cluster, run: str) -> None:
    node = pod_of(cluster, _live(cluster, run)[0])["spec"]["nodeName"]
    drain = [
        *(*cluster.plane.binaries.program("kubectl"), "drain", node, "--delete-emptydir-data"),
        *("--ignore-daemonsets", "--force", "--pod-selector=mobilenet/run"),
    ]
    polite = subprocess.run(
        [*drain, "--timeout=5s"], env=cluster.environment, capture_output=True, text=True
    )
    assert polite.returncode != 0
    assert "disruption budget" in polite.stderr, "the budget holds a drain back"
    subprocess.run(
        [*drain, "--disable-eviction"], env=cluster.environment, check=True, capture_output=True
    )
    cluster.kubectl("uncordon", node)


def test_a_permanent_failure_is_not_retried(platform: Cluster, whole: str) -> None:
    run = "mistaken"
    taken = platform.data / "runs" / run
    shutil.copytree(platform.data / "runs" / whole, taken)
    for path in (taken, *taken.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    launched = platform.mobilenet(*launching(run, LONG, "--set=seed=2"))
    assert launched.code == 2, launched.err
    assert "exit code 2" in launched.err
    (job,) = platform.jobs("tfjobs", run)
    assert "Failed" in conditions(job)
    assert "Restarting" not in {condition["type"] for condition in job["status"]["conditions"]}
