"""Kueue queues all 22 variants on a quota of 8 GPUs, and lets an urgent run go first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.access import NAMESPACE, AnyCluster, until
from tests.cluster.api import Informer, Object
from tests.cluster.own import Cluster
from tests.cluster.runs import SHORT, conditions, final_weights, launching, step
from tests.cluster.simulated import QUICK_NODE, gpu_node

QUOTA = 8


@pytest.fixture(scope="module")
def quick(any_platform: AnyCluster) -> Iterator[AnyCluster]:
    """Provide the cluster with a node of 8 GPUs whose pods succeed after seconds."""
    any_platform.require("localqueues")
    with gpu_node(any_platform, QUICK_NODE) as cluster:
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

    pods.append(Informer(quick.api, quick.path("pods"), changed))
    launched = quick.mobilenet(
        "launch", "--all", "--overlay=local", "--gpus=8", "--layout=2x4", "--detach"
    )
    assert launched.code == 0, launched.err
    runs = launched.result["runs"]
    assert len(runs) == 22

    def ended() -> bool:
        shown = quick.mobilenet("jobs", "--format=json")
        assert shown.code == 0, shown.err
        return all(quick.state(run)["outcome"] for run in runs)

    until("all runs end", ended, seconds=850)
    assert {quick.state(run)["outcome"] for run in runs} == {"succeeded"}
    assert max(most) == QUOTA, "the quota is used, and never exceeded"
    workloads = quick.api.get(f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{NAMESPACE}/workloads")
    assert len(workloads["items"]) >= 22


@pytest.fixture
def quota_for_one(platform: Cluster) -> Iterator[Cluster]:
    """Provide the cluster with a queue that holds one run of two workers without GPUs."""
    path = "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/mobilenet"
    (group,) = platform.api.get(path)["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    small = [
        {**resource, "nominalQuota": "1" if resource["name"] == "cpu" else resource["nominalQuota"]}
        for resource in flavor["resources"]
    ]
    for resources in (small, flavor["resources"]):
        changed = {**group, "flavors": [{**flavor, "resources": resources}]}
        platform.api.patch(path, {"spec": {"resourceGroups": [changed]}}, "merge")
        if resources is small:
            yield platform


@pytest.mark.timeout(2400)
def test_a_preempted_run_goes_on_after_the_urgent_one_and_ends_with_the_same_weights(
    quota_for_one: Cluster, whole: str
) -> None:
    cluster = quota_for_one

    def launch(run: str, *flags: str) -> None:
        launched = cluster.mobilenet(*launching(run, SHORT, "--queue", "--detach", *flags))
        assert launched.code == 0, launched.err

    def phase(run: str) -> set[str]:
        (job,) = cluster.jobs("tfjobs", run)
        assert job["spec"]["runPolicy"]["ttlSecondsAfterFinished"], "as users have it"
        return conditions(job)

    def trained(run: str) -> bool:
        return "train" in cluster.state(run)["done"]

    launch("patient", "--priority=mobilenet-patient")
    until("it trains", lambda: step(cluster.data, "patient") > 0)
    launch("urgent", "--priority=mobilenet-urgent")
    until("it gives way", lambda: "Suspended" in phase("patient"))
    stopped_at = step(cluster.data, "patient")
    assert stopped_at < SHORT
    until("the urgent one is trained", lambda: trained("urgent"))
    assert not trained("patient")
    until("it goes on", lambda: step(cluster.data, "patient") > stopped_at)
    until("it is trained", lambda: trained("patient"))
    (job,) = cluster.jobs("tfjobs", "patient")
    assert job["metadata"]["labels"]["mobilenet/attempt"] == "1", "Kueue resumed the same job"
    assert final_weights(cluster.data, "patient") == final_weights(cluster.data, "urgent")
    for run in ("patient", "urgent"):
        assert cluster.mobilenet("stop", run).code == 0
