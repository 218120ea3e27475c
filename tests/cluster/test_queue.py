"""All 22 variants queued by Kueue on a quota of 8 GPUs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.access import NAMESPACE, AnyCluster, until
from tests.cluster.api import Informer, Object
from tests.cluster.simulated import gpu_node

QUOTA = 8


@pytest.fixture(scope="module")
def quick(any_platform: AnyCluster) -> Iterator[AnyCluster]:
    """Provide the cluster with a node of 8 GPUs whose pods succeed after seconds."""
    any_platform.require("localqueues")
    with gpu_node(any_platform, "mobilenet-quick-0") as cluster:
        yield cluster


def gpus_in_use(pods: Informer) -> int:
    """Return the GPUs of all pods that have a node and have not ended."""
    return sum(
        int(container["resources"].get("limits", {}).get("nvidia.com/gpu", 0))
        for pod in list(pods.objects.values())
        if pod["spec"].get("nodeName")
        and pod.get("status", {}).get("phase") in ("Pending", "Running")
        for container in pod["spec"]["containers"]
    )


def test_22_runs_never_use_more_than_8_gpus_and_all_finish(quick: AnyCluster) -> None:
    most: list[int] = []
    pods: list[Informer] = []

    def changed(_: Object, __: bool) -> None:
        if pods:
            most.append(gpus_in_use(pods[0]))

    pods.append(Informer(quick.api, f"/api/v1/namespaces/{NAMESPACE}/pods", changed))
    launched = quick.mobilenet(
        "launch", "--all", "--overlay=local", "--gpus=8", "--layout=2x4", "--detach"
    )
    assert launched.code == 0, launched.err
    runs = launched.result["runs"]
    assert len(runs) == 22

    def ended() -> bool:
        shown = quick.mobilenet("jobs", "--format=json")
        assert shown.code == 0, shown.err
        return all(state(quick, run)["outcome"] for run in runs)

    until("all runs end", ended, seconds=850)
    assert {state(quick, run)["outcome"] for run in runs} == {"succeeded"}
    assert max(most) == QUOTA, "the quota is used, and never exceeded"
    workloads = quick.api.get(f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{NAMESPACE}/workloads")
    assert len(workloads["items"]) >= 22


def state(cluster: AnyCluster, run: str) -> Object:
    """Return the state in a run's record."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{run}"
    found: Object = json.loads(cluster.api.get(path)["data"]["state"])
    return found
