"""Every pod of every overlay reaches what it needs, by an evaluation of the policies."""

from __future__ import annotations

import pytest

from pipeline.cluster import render
from tests.k8s.conftest import CASES, OVERLAYS, Manifest, built
from tests.k8s.flink import ROLES
from tests.k8s.flink import pod_template as flink_pod_template
from tests.k8s.network import may_connect, may_leave
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
    *("tensorboard", "mlflow", "data-service", "flink-taskmanager"),
}
PREPARE, TRAIN, JOB_MANAGER, TASK_MANAGER = (
    {render.STAGE_LABEL: name}
    for name in ("prepare", "train", "flink-jobmanager", "flink-taskmanager")
)
OPERATOR = {"app.kubernetes.io/name": "flink-kubernetes-operator"}
# Who opens connections to whom in Flink, and the setting that says at which port.
FLINK_CONNECTIONS = (
    (PREPARE, JOB_MANAGER, "rest.port"),
    (TASK_MANAGER, JOB_MANAGER, "jobmanager.rpc.port"),
    (TASK_MANAGER, JOB_MANAGER, "blob.server.port"),
    (TASK_MANAGER, JOB_MANAGER, "metrics.internal.query-service.port"),
    (JOB_MANAGER, TASK_MANAGER, "taskmanager.rpc.port"),
    (JOB_MANAGER, TASK_MANAGER, "metrics.internal.query-service.port"),
    (TASK_MANAGER, TASK_MANAGER, "taskmanager.rpc.port"),
    (TASK_MANAGER, TASK_MANAGER, "taskmanager.data.port"),
)


def policies(overlay: str, component: str = "") -> list[Manifest]:
    component = component if (overlay, "platform", component) in CASES else ""
    docs = [*built(overlay, "platform", ""), *built(overlay, "platform", component)]
    return [doc for doc in docs if doc["kind"] == "NetworkPolicy"]


def pods(overlay: str, half: str, component: str) -> list[dict[str, str]]:
    """Return the labels of every kind of pod."""
    docs = built(overlay, half, component)
    templates = [pod_template(doc) for doc in docs]
    for doc in docs:
        if doc["kind"] == "FlinkDeployment":
            templates += [flink_pod_template(doc, role) for role in ROLES]
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


@pytest.mark.parametrize(("overlay", "half", "component"), CASES)
def test_only_training_pods_reach_a_training_pod(overlay: str, half: str, component: str) -> None:
    """TensorFlow's servers obey whoever reaches them."""
    rules = policies(overlay, component)
    for labels in pods(overlay, half, component):
        source = {render.STAGE_LABEL: labels[render.STAGE_LABEL]}
        for port in (22, 2222, 6006, 49152):
            assert may_connect(source, TRAIN, rules, port) == (source == TRAIN), (source, port)
            assert not may_connect(source, TRAIN, rules, port, source_elsewhere=True), source


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(("source", "target", "setting"), FLINK_CONNECTIONS)
def test_flinks_pods_reach_each_other_at_the_ports_of_their_configuration(
    overlay: str, source: dict[str, str], target: dict[str, str], setting: str
) -> None:
    docs = built(overlay, "platform", "flink-cluster")
    (cluster,) = (doc for doc in docs if doc["kind"] == "FlinkDeployment")
    port = int(cluster["spec"]["flinkConfiguration"][setting])
    assert may_connect(source, target, policies(overlay, "flink-cluster"), port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_else_reaches_flink(overlay: str) -> None:
    docs = built(overlay, "platform", "flink-cluster")
    (cluster,) = (doc for doc in docs if doc["kind"] == "FlinkDeployment")
    settings = cluster["spec"]["flinkConfiguration"]
    allowed = [(source, target, int(settings[name])) for source, target, name in FLINK_CONNECTIONS]
    ports = {50000, *(port for *_, port in allowed)}  # 50000 is the worker's, for its own pod
    everyone = [
        *pods(overlay, "jobs", ""),
        *pods(overlay, "platform", ""),
        *(TASK_MANAGER, JOB_MANAGER),
    ]
    for source in everyone:
        source = {render.STAGE_LABEL: source[render.STAGE_LABEL]}
        for target in (JOB_MANAGER, TASK_MANAGER):
            for port in ports:
                reached = may_connect(source, target, policies(overlay, "flink-cluster"), port)
                assert reached == ((source, target, port) in allowed), (source, target, port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_flinks_operator_watches_the_job_manager_from_its_own_namespace(overlay: str) -> None:
    rules = policies(overlay, "flink-cluster")
    assert may_connect(OPERATOR, JOB_MANAGER, rules, 8081, source_elsewhere=True)
    for source, target, port in (
        (PREPARE, JOB_MANAGER, 8081),
        (OPERATOR, JOB_MANAGER, 6123),
        (OPERATOR, TASK_MANAGER, 6122),
    ):
        assert not may_connect(source, target, rules, port, source_elsewhere=True)
    for address in ("10.0.0.1", "203.0.113.9"):  # the API server, wherever it is
        assert may_leave(JOB_MANAGER, rules, address, 443)
        assert not may_leave(TASK_MANAGER, rules, address, 6443)
