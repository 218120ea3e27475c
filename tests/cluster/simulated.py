"""Simulated GPU nodes: kwok plays them and their pods, and only pods of the tests get there."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.cluster.access import AnyCluster, is_ready, until
from tests.cluster.binaries import Binaries
from tests.cluster.certificates import Authority
from tests.cluster.checkouts import make_checkout
from tests.cluster.control_plane import Daemon, free_port

STAGES = Path(__file__).parent / "stages.yaml"
FAKE_LOG = "2026-01-01T00:00:00.0Z stdout F train: step 5/100  loss 2.0  top-1 0.1\n"
SIMULATED = "mobilenet/simulated"  # label of the nodes, whose value says by whom, and taint
C = TypeVar("C", bound=AnyCluster)

NODE = "mobilenet-gpu-0"  # a node whose pods run until a test ends them
QUICK_NODE = "mobilenet-quick-0"  # one whose pods succeed after seconds, see STAGES
FAIL = "pod-container-running-failed.stage.kwok.x-k8s.io"


class Simulator:
    """kwok, for the nodes of one session: those of other kwoks on the cluster are not its own.

    Args:
        binaries: Ours.
        kubeconfig: Of the cluster.
        folder: Made, for what it reads and its log.

    Attributes:
        name: Value of the label `SIMULATED` of its nodes.
        kwok: To be started.
    """

    def __init__(self, binaries: Binaries, kubeconfig: Path, folder: Path) -> None:
        folder.mkdir()
        self.name = uuid.uuid4().hex
        certificate, key = Authority("kwok-ca").sign("kwok").write(folder, "kwok")
        port = free_port()
        command = [
            *binaries.program("kwok"),
            f"--kubeconfig={kubeconfig}",
            f"--config={_config(binaries.manifests('kwok') / 'stage', folder)}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-label-selector={SIMULATED}={self.name}",
            "--node-ip=127.0.0.1",
            "--cidr=10.0.0.0/16",
            f"--server-address=127.0.0.1:{port}",
            f"--node-port={port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
        ]
        self.kwok = Daemon("kwok", command, folder)


def _config(shipped: Path, folder: Path) -> Path:
    stages = [
        *sorted((shipped / "node" / "fast").glob("node-*.yaml")),
        *sorted((shipped / "node" / "heartbeat-with-lease").glob("node-*.yaml")),
        shipped / "pod" / "fast" / "pod-ready.yaml",
        shipped / "pod" / "fast" / "pod-delete.yaml",
        shipped / "pod" / "chaos" / "pod-container-running-failed.yaml",
        STAGES,
    ]
    log, config = folder / "fake.log", folder / "kwok.yaml"
    log.write_text(FAKE_LOG)
    logs = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": {"name": "all"},
        "spec": {"logs": [{"logsFile": str(log), "follow": False}]},
    }
    config.write_text(
        "\n---\n".join([*(path.read_text() for path in stages), yaml.safe_dump(logs)])
    )
    return config


@contextlib.contextmanager
def gpu_node(cluster: C, name: str) -> Iterator[C]:
    """Provide a simulated node with 8 GPUs, on which only runs of that time are placed."""
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
            "labels": {
                "kubernetes.io/hostname": name,
                SIMULATED: cluster.simulator,
                "node.kubernetes.io/exclude-from-external-load-balancers": "true",
            },
        },
        "spec": {"taints": [{"key": SIMULATED, "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources},
    }
    cluster.api.create("/api/v1/nodes", node)
    try:
        until(f"{name} is ready", lambda: is_ready(cluster.api, name))
        with tempfile.TemporaryDirectory() as folder:
            yield dataclasses.replace(cluster, checkout=_checkout(cluster, Path(folder)))
    finally:
        cluster.api.delete(f"/api/v1/nodes/{name}")
        until(f"pods of {name} are gone", lambda: not _evicted(cluster, name))


def workers(cluster: AnyCluster, run: str, phase: str = "") -> list[Any]:
    """Return the run's pods in a phase, by worker."""
    found = [
        pod
        for pod in cluster.jobs("pods", run)
        if not phase or pod.get("status", {}).get("phase") == phase
    ]
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


def exits(cluster: AnyCluster, pod: Any, code: int) -> None:
    """Let a simulated container end."""
    path = f"{cluster.path('pods')}/{pod['metadata']['name']}"
    changed = {
        "labels": {FAIL: "true"},
        "annotations": {f"{FAIL}/exit-code": str(code), f"{FAIL}/delay": "0s"},
    }
    cluster.api.patch(path, {"metadata": {"uid": pod["metadata"]["uid"], **changed}})


def _evicted(cluster: AnyCluster, node: str) -> list[Any]:
    """Evict the pods of a removed node; DaemonSets of the user have some."""
    pods: list[Any] = cluster.api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={node}")["items"]
    for pod in pods:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        cluster.api.delete(path, {"gracePeriodSeconds": 0})
    return pods


def _checkout(cluster: AnyCluster, folder: Path) -> Path:
    """Return the repository with overlay `local` edited so that pods go to simulated nodes."""
    path = make_checkout(folder) / "local" / "jobs" / "kustomization.yaml"
    overlay = yaml.safe_load(path.read_text())
    for kind, template in (
        ("TFJob", "/spec/tfReplicaSpecs/Worker/template"),
        ("Job", "/spec/template"),
    ):
        placed = {
            "nodeSelector": {SIMULATED: cluster.simulator},
            "tolerations": [{"key": SIMULATED, "operator": "Exists"}],
        }
        patch = [
            {"op": "add", "path": f"{template}/spec/{field}", "value": value}
            for field, value in placed.items()
        ]
        overlay["patches"].append({"target": {"kind": kind}, "patch": yaml.safe_dump(patch)})
    path.write_text(yaml.safe_dump(overlay))
    return folder
