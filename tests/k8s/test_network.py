"""Every pod of every overlay reaches what it needs, by an evaluation of the policies."""

from __future__ import annotations

import pytest

from pipeline.cluster import render
from tests.k8s.conftest import CASES, OVERLAYS, Manifest, built
from tests.k8s.network import may_leave
from tests.k8s.test_manifests import pod_template

NAME_SERVERS = {
    "a service address of the cluster": "34.118.224.10",
    "a cache on the node's own network (NodeLocal)": "169.254.20.10",
    "the metadata server (Cloud DNS)": "169.254.169.254",
}
# What gives a pod of GKE its identity and a bucket: the metadata server's two doors, Google's APIs.
GOOGLE = (("169.254.169.254", 80), ("169.254.169.252", 988), ("142.250.1.95", 443))
USES_BUCKETS = {
    *("prepare", "train", "evaluate", "export", "publish"),
    *("tensorboard", "mlflow", "data-service"),
}


def policies(overlay: str, component: str = "") -> list[Manifest]:
    component = component if (overlay, "platform", component) in CASES else ""
    docs = [*built(overlay, "platform", ""), *built(overlay, "platform", component)]
    return [doc for doc in docs if doc["kind"] == "NetworkPolicy"]


def pods(overlay: str, half: str, component: str) -> list[dict[str, str]]:
    """Return the labels of every kind of pod."""
    templates = [pod_template(doc) for doc in built(overlay, half, component)]
    return [template["metadata"]["labels"] for template in templates if template]


@pytest.mark.parametrize(("overlay", "half", "component"), CASES)
@pytest.mark.parametrize("address", NAME_SERVERS.values(), ids=NAME_SERVERS)
def test_names_are_resolved_wherever_the_cluster_resolves_them(
    overlay: str, half: str, component: str, address: str
) -> None:
    for labels in pods(overlay, half, component):
        for protocol in ("UDP", "TCP"):
            assert may_leave(labels, policies(overlay, component), address, 53, protocol), labels


@pytest.mark.parametrize(("half", "component"), [case[1:] for case in CASES if case[0] == "gke"])
def test_on_gke_exactly_the_pods_that_use_buckets_reach_google(half: str, component: str) -> None:
    for labels in pods("gke", half, component):
        name = labels[render.STAGE_LABEL]
        for address, port in GOOGLE[:2]:
            reached = may_leave(labels, policies("gke", component), address, port)
            assert reached == (name in USES_BUCKETS), (name, address)
        if name in USES_BUCKETS:
            assert may_leave(labels, policies("gke", component), *GOOGLE[2]), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_else_is_closed(overlay: str) -> None:
    for half in ("platform", "jobs"):
        for labels in pods(overlay, half, ""):
            for address, port in (("203.0.113.9", 8080), ("10.0.0.9", 22), ("10.0.0.9", 5432)):
                assert not may_leave(labels, policies(overlay), address, port), labels
