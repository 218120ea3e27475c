"""`python -m tests.cluster.node --kubeconfig K --keys D ... NODE...`: run until killed.

Registers the nodes, keeps their leases, runs the pods bound to them and serves their logs.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import threading
import time
from pathlib import Path

from tests.cluster.api import Api, ApiError, Informer, Object
from tests.cluster.node import google, image
from tests.cluster.node.logs import serve_logs
from tests.cluster.node.names import Names
from tests.cluster.node.network import Switch
from tests.cluster.node.pods import Pod

ADDRESS = "127.0.0.1"
LEASE_SECONDS = 10.0


def main() -> None:
    """Run the nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True, help="node.crt and node.key")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--store-port", type=int, required=True, help="of the proxy for Google")
    parser.add_argument("--authority", type=Path, required=True, help="whom images trust")
    parser.add_argument("nodes", nargs="+")
    arguments = parser.parse_args()
    api = Api(arguments.kubeconfig)
    port = serve_logs(arguments.folder / "pods", arguments.keys)
    image.make(arguments.folder / "pods", arguments.authority)
    switch = Switch(google.with_google(Names(api).resolve), int(api.server.rsplit(":", 1)[1]))
    google.open_doors(switch, arguments.store_port)
    pods: dict[str, Pod] = {}

    def changed(pod: Object, gone: bool) -> None:
        """Start what is new on one of our nodes; tell those that run."""
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if uid not in pods and node in arguments.nodes and not gone and not ended:
            pods[uid] = Pod(api, pod, switch, arguments.folder / "pods", ADDRESS)
            pods[uid].start()
        if uid in pods:
            pods[uid].see(pod, gone)

    for name in arguments.nodes:
        api.persistently(functools.partial(register, api, name, port))
        threading.Thread(target=stay, args=[api, name, port], daemon=True).start()
    Informer(api, "/api/v1/pods", changed)
    threading.Event().wait()


def register(api: Api, name: str, port: int) -> None:
    """Make the Node and say that it is ready."""
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    try:
        api.create("/api/v1/nodes", node)
    except ApiError as error:
        if error.status != 409:
            raise
    resources = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi", "pods": "110"}
    status: Object = {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": ADDRESS},
            {"type": "Hostname", "address": name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "AgentReady", **_times()},
            {"type": "MemoryPressure", "status": "False", "reason": "Fine", **_times()},
            {"type": "DiskPressure", "status": "False", "reason": "Fine", **_times()},
            {"type": "PIDPressure", "status": "False", "reason": "Fine", **_times()},
        ],
        "nodeInfo": {
            "kubeletVersion": "v1.36.3",
            "containerRuntimeVersion": "process://1",
            "operatingSystem": "linux",
            "architecture": "amd64",
            **dict.fromkeys(
                ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage"), name
            ),
            "kubeProxyVersion": "",
        },
    }
    api.patch(f"/api/v1/nodes/{name}/status", {"status": status})


def stay(api: Api, name: str, port: int) -> None:
    """Say every few seconds that the node lives, and that it is ready if Kubernetes gave it up."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
    while True:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        api.persistently(functools.partial(api.apply, body, path))
        api.persistently(functools.partial(come_back, api, name, port))
        time.sleep(LEASE_SECONDS)


def come_back(api: Api, name: str, port: int) -> None:
    """After an API server that was long away, leases alone do not make a node ready again."""
    conditions = api.get(f"/api/v1/nodes/{name}")["status"]["conditions"]
    if any(
        condition["type"] == "Ready" and condition["status"] != "True" for condition in conditions
    ):
        register(api, name, port)


def _times() -> dict[str, str]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"lastTransitionTime": now, "lastHeartbeatTime": now}


if __name__ == "__main__":
    main()
