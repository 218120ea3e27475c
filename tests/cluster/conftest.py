"""One cluster for all tests here; nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import operators
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.binaries import built
from tests.cluster.control_plane import ControlPlane, Daemon
from tests.conftest import Outcome, mobilenet

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "mobilenet"
GROUPS = {
    kind: f"/{group}/namespaces/{NAMESPACE}"
    for kind, group in {
        "tfjobs": "apis/kubeflow.org/v1",
        "jobsets": "apis/jobset.x-k8s.io/v1alpha2",
        "jobs": "apis/batch/v1",
        "pods": "api/v1",
    }.items()
}
REAL_NODES = ("real-0", "real-1")
WAIT_SECONDS = 600.0  # for a loaded machine


@dataclass(frozen=True)
class Cluster:
    """The running cluster.

    Attributes:
        api: An administrator's access.
        plane: What a test may stop and start.
        data: The folder that pods see as /data.
        pods: The agent's folder with each pod's log and process id.
    """

    api: Api
    plane: ControlPlane
    data: Path
    pods: Path

    @property
    def environment(self) -> dict[str, str]:
        """For programs that talk to it."""
        programs = self.plane.binaries.folder / "bin"
        return {
            **os.environ,
            "KUBECONFIG": str(self.plane.kubeconfig),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def mobilenet(self, *arguments: str) -> Outcome:
        """Run a command of ours against the cluster."""
        return mobilenet(*arguments, timeout_seconds=WAIT_SECONDS, **self.environment)

    def jobs(self, kind: str, run: str) -> list[Object]:
        """The `tfjobs`, `jobsets`, `jobs` or `pods` of a run, oldest first."""
        found = self.api.get(f"{GROUPS[kind]}/{kind}?labelSelector=mobilenet/run={run}")["items"]
        return sorted(found, key=lambda each: each["metadata"]["creationTimestamp"])

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; its output."""
        done = subprocess.run(
            [*self.plane.binaries.program("kubectl"), *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *documents: Object) -> None:
        """Server-side apply, unknown fields refused."""
        text = yaml.safe_dump_all(documents)
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)

    def process(self, pod: str, container: str = "tensorflow", namespace: str = NAMESPACE) -> int:
        """Process id of the newest container of a pod."""
        found = sorted(
            self.pods.glob(f"{namespace}_{pod}_*/{container}/*/pid"),
            key=lambda path: path.stat().st_mtime,
        )
        return int(found[-1].read_text())

    def log(self, pod: str, namespace: str = NAMESPACE) -> str:
        """Everything that the pods of that name wrote."""
        return "".join(
            path.read_text(errors="replace")
            for path in sorted(self.pods.glob(f"{namespace}_{pod}_*/*/*/log"))
        )


def until(what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Wait until `condition()` is true and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)
    return found


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Everything, started."""
    if os.geteuid():
        pytest.exit("tests/cluster gives each pod a network: run make test-cluster as root", 2)
    if missing := [name for name in ("ip", "nsenter", "unshare") if not shutil.which(name)]:
        pytest.exit(f"{', '.join(missing)} not found: install iproute2 and util-linux", 2)
    namespaces = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"]
    if subprocess.run(namespaces, capture_output=True, check=False).returncode:
        pytest.skip("pods need namespaces, which this machine's container does not let root make")
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def platform(cluster: Cluster, archives: Path) -> Cluster:
    """The cluster with what k8s/overlays/local/platform installs, the archives in place."""
    install_platform(cluster, archives)
    return cluster


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Control plane, operators and two real nodes; stopped afterwards."""
    data = folder / "data"
    data.mkdir()
    try:
        binaries = built()
    except RuntimeError as error:
        pytest.exit(str(error), returncode=2)
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(ControlPlane(binaries, folder / "plane").running())
        api = Api(plane.kubeconfig)
        kubectl = [*binaries.program("kubectl"), f"--kubeconfig={plane.kubeconfig}"]
        daemons = [
            operators.training_operator(plane, api, kubectl),
            operators.jobset(plane, api, kubectl),
            operators.kueue(plane, api, kubectl),
            operators.kwok(plane),
            nodes(plane, folder / "nodes", *REAL_NODES),
        ]
        for daemon in daemons:
            stack.callback(daemon.stop)
            daemon.start()
        for daemon in daemons:
            daemon.wait_until_ready()
        for node in REAL_NODES:
            until(f"{node} is ready", functools.partial(_is_ready, api, node))
        yield Cluster(api, plane, data, folder / "nodes" / "pods")


def nodes(plane: ControlPlane, folder: Path, *names: str) -> Daemon:
    """A process that plays nodes; their pods' files are in `FOLDER/pods`."""
    keys = folder / "keys"
    plane.authority.sign("node").write(keys, "node")
    plane.authority.pair.write(keys, "ca")
    command = [
        *(sys.executable, "-m", "tests.cluster.node"),
        *(f"--kubeconfig={plane.kubeconfig}", f"--keys={keys}", f"--folder={folder}"),
        *names,
    ]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    return Daemon(names[0], command, plane.logs, environment)


def _is_ready(api: Api, node: str) -> bool:
    try:
        found = api.get(f"/api/v1/nodes/{node}")
    except ApiError:
        return False
    conditions = {each["type"]: each["status"] for each in found["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not found["spec"].get("taints")


def install_platform(cluster: Cluster, archives: Path) -> None:
    """Put the archives in place and apply the platform; returns when its servers are ready."""
    shutil.copytree(archives, cluster.data / "source")
    for path in (cluster.data, *cluster.data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    cluster.apply(_volume(cluster.data))
    k8s = REPOSITORY / "k8s"
    cluster.kubectl("apply", "--server-side", "-k", str(k8s / "overlays/local/platform"))
    queue = k8s / "components/kueue-queue/queue.yaml"
    cluster.kubectl("apply", "--server-side", "-f", str(queue))
    for name in ("mlflow", "supervisor"):
        cluster.kubectl(
            *("wait", "-n", NAMESPACE, f"deployment/{name}", "--for=condition=Available"),
            f"--timeout={WAIT_SECONDS:.0f}s",
        )


def _volume(data: Path) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "data"},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": NAMESPACE, "name": "data"},
            "hostPath": {"path": str(data)},
        },
    }


@contextlib.contextmanager
def fake_node(cluster: Cluster, name: str) -> Iterator[None]:
    """A simulated node with 8 GPUs, the only one that takes new pods meanwhile."""
    resources = {
        "cpu": "208",
        "memory": "1872Gi",
        "ephemeral-storage": "2Ti",
        "pods": "110",
        "nvidia.com/gpu": "8",
    }
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
        },
        "status": {"capacity": resources, "allocatable": resources},
    }
    cluster.kubectl("cordon", *REAL_NODES)
    cluster.api.create("/api/v1/nodes", node)
    try:
        until(f"{name} is ready", lambda: _is_ready(cluster.api, name))
        yield
    finally:
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods?fieldSelector=spec.nodeName={name}"
        cluster.api.delete(pods, {"gracePeriodSeconds": 0})  # all in one request
        cluster.api.delete(f"/api/v1/nodes/{name}")
        cluster.kubectl("uncordon", *REAL_NODES)
