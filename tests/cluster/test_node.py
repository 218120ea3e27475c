"""The node of these tests treats pods as a kubelet does."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.access import until
from tests.cluster.api import ApiError, Object
from tests.cluster.own import Cluster, nodes

PODS = "/api/v1/namespaces/default/pods"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10002,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def cluster(cluster: Cluster) -> Cluster:
    """Provide the cluster with the namespace `default`, in which there is no platform."""
    return dataclasses.replace(cluster, namespace="default")


def pod(name: str, script: str, container: Object | None = None, **spec: Any) -> Object:
    """Return a pod of one container that runs a shell script."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/mobilenet-train:1",
                    "command": ["sh", "-c", script],
                    **(container or {}),
                }
            ],
            **spec,
        },
    }


@pytest.fixture
def run(cluster: Cluster) -> Iterator[Any]:
    """Provide a function that creates pods; they are removed after the test."""
    created = []

    def create(described: Object) -> str:
        cluster.api.create(PODS, described)
        name: str = described["metadata"]["name"]
        created.append(name)
        return name

    until("the default account", lambda: account(cluster))
    yield create
    for name in created:
        cluster.api.delete(f"{PODS}/{name}", {"gracePeriodSeconds": 0})
    until("the pods are gone", lambda: all(missing(cluster, name) for name in created))


def account(cluster: Cluster) -> bool:
    try:
        cluster.api.get("/api/v1/namespaces/default/serviceaccounts/default")
    except ApiError:
        return False
    return True


def missing(cluster: Cluster, name: str) -> bool:
    try:
        cluster.api.get(f"{PODS}/{name}")
    except ApiError as error:
        return error.status == 404
    return False


def status(cluster: Cluster, name: str) -> Object:
    found: Object = cluster.api.get(f"{PODS}/{name}")["status"]
    return found


def ended(cluster: Cluster, name: str) -> Object:
    """Return the state of the container once the pod has ended."""
    until(f"{name} ends", lambda: status(cluster, name).get("phase") in ("Succeeded", "Failed"))
    found: Object = status(cluster, name)["containerStatuses"][0]["state"]["terminated"]
    return found


def says(cluster: Cluster, name: str, word: str) -> bool:
    return word in cluster.log(name)


def running(cluster: Cluster, name: str) -> None:
    until(f"{name} runs", lambda: status(cluster, name).get("phase") == "Running")


@pytest.mark.parametrize(
    ("script", "code", "phase"),
    [
        ("exit 0", 0, "Succeeded"),
        ("exit 2", 2, "Failed"),
        ("exit 143", 143, "Failed"),
    ],
)
def test_exit_codes_arrive(cluster: Cluster, run: Any, script: str, code: int, phase: str) -> None:
    name = run(pod(f"exits-{code}", script))
    assert ended(cluster, name)["exitCode"] == code
    assert status(cluster, name)["phase"] == phase


def test_a_container_killed_from_outside_ends_with_137(cluster: Cluster, run: Any) -> None:
    name = run(pod("killed", "sleep 600"))
    running(cluster, name)
    os.kill(cluster.process(name, "main"), signal.SIGKILL)
    assert ended(cluster, name)["exitCode"] == 137


def test_deleting_asks_first_and_kills_after_the_grace_period(cluster: Cluster, run: Any) -> None:
    polite = run(
        pod("polite", "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    )
    stubborn = run(
        pod(
            "stubborn",
            "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done",
            terminationGracePeriodSeconds=2,
        )
    )
    for name in (polite, stubborn):
        until(f"{name} is ready", functools.partial(says, cluster, name, "ready"))
        process = cluster.process(name, "main")
        cluster.api.delete(f"{PODS}/{name}")
        until(f"{name} is gone", functools.partial(missing, cluster, name))
        assert "asked" in cluster.log(name)
        assert not Path(f"/proc/{process}").exists()


def test_pods_find_each_other_by_name_once_ready_each_with_its_own_port(
    cluster: Cluster, run: Any
) -> None:
    serve = "python3 -m http.server 2222 --directory /etc"
    slow = {"httpGet": {"path": "/open", "port": 2222}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "peers", "namespace": "default"},
        "spec": {"clusterIP": "None", "selector": {"peers": "yes"}, "ports": [{"port": 2222}]},
    }
    cluster.apply(service)
    members = {"hostname": None, "subdomain": "peers"}
    for name, container in (("peer-0", {}), ("peer-1", {}), ("shut", {"readinessProbe": slow})):
        described = pod(name, serve, container, **{**members, "hostname": name})
        described["metadata"]["labels"]["peers"] = "yes"
        run(described)
        running(cluster, name)
    ask = "curl -s -o /dev/null -w '%{http_code} ' http://peer-0.peers.default.svc:2222/hosts"
    client = run(
        pod(
            "client",
            f"until {ask} && {ask.replace('-0', '-1')}; do sleep 0.1; done; "
            "getent hosts shut.peers.default.svc || echo no such name",
        )
    )
    assert ended(cluster, client)["exitCode"] == 0
    log = cluster.log(client)
    assert "200 200" in log
    assert "no such name" in log
    cluster.api.delete("/api/v1/namespaces/default/services/peers")


def test_environment_volumes_and_user_are_as_described(cluster: Cluster, run: Any) -> None:
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "default"},
            "data": {"RUNS": "/data/runs", "file": "content"},
        }
    )
    container = {
        "env": [
            {"name": "RUN", "value": "one"},
            {"name": "WORKDIR", "value": "$(RUNS)/$(RUN)"},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "args": ["x", "$(WORKDIR)", "$(NOBODY)", "$$(RUN)"],
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "settings", "mountPath": "/settings"},
        ],
        "securityContext": {"readOnlyRootFilesystem": True},
    }
    script = (
        'echo "$WORKDIR|$ME|$1|$2|$3"; id -u; id -G; cat /settings/file; echo; '
        "echo x > /scratch/mine && stat -c %g /scratch/mine; "
        "(echo x > /home/x) 2>/dev/null || echo read-only"
    )
    name = run(
        pod(
            "described",
            script,
            container,
            securityContext=RESTRICTED,
            volumes=[
                {"name": "scratch", "emptyDir": {}},
                {"name": "settings", "configMap": {"name": "settings"}},
            ],
        )
    )
    assert ended(cluster, name)["exitCode"] == 0
    lines = cluster.kubectl("logs", "-n", "default", name).splitlines()
    assert lines == [
        "/data/runs/one|described|/data/runs/one|$(NOBODY)|$(RUN)",
        "10001",
        "10001 10002",
        "content",
        "10002",
        "read-only",
    ]


def test_logs_follow_to_the_end_and_tail(cluster: Cluster, run: Any) -> None:
    name = run(pod("talks", "for i in 1 2 3 4; do echo line $i; sleep 0.5; done"))
    running(cluster, name)
    followed = cluster.kubectl("logs", "-n", "default", "-f", name)
    assert followed.splitlines() == [f"line {i}" for i in (1, 2, 3, 4)]
    assert cluster.kubectl("logs", "-n", "default", "--tail=1", name) == "line 4\n"


def test_failed_containers_are_restarted_if_the_policy_says_so(cluster: Cluster, run: Any) -> None:
    script = "test -e /scratch/second && exit 0; touch /scratch/second; exit 1"
    name = run(
        pod(
            "twice",
            script,
            {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
            restartPolicy="OnFailure",
            volumes=[{"name": "scratch", "emptyDir": {}}],
        )
    )
    assert ended(cluster, name)["exitCode"] == 0
    assert status(cluster, name)["containerStatuses"][0]["restartCount"] == 1


def test_an_image_that_nobody_has_is_waited_for(cluster: Cluster, run: Any) -> None:
    name = run(pod("unknown", "exit 0", {"image": "registry.example/unknown:1"}))

    def reason() -> str:
        states = status(cluster, name).get("containerStatuses") or [{"state": {}}]
        found: str = states[0]["state"].get("waiting", {}).get("reason", "")
        return found

    until("the reason is shown", lambda: reason() == "ImagePullBackOff")


def test_nothing_outlives_the_node(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    another = nodes(cluster.plane, tmp_path / "another", cluster.store, "another")
    another.start()
    try:
        name = run(pod("orphan", "sleep 600 & sleep 600", nodeName="another"))
        running(cluster, name)
        files = (tmp_path / "another" / "pods").glob
        noted = "default_orphan_*/main/*/pid"
        pid = until("its id is noted", lambda: "".join(file.read_text() for file in files(noted)))
        another.kill()
        until("its processes are gone", lambda: not Path(f"/proc/{pid}").exists())
    finally:
        another.stop()
        cluster.api.delete("/api/v1/nodes/another")
