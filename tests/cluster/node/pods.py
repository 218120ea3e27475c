"""The life of one pod, from being bound to the node until it is gone."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, Object
from tests.cluster.node import environment, image, network
from tests.cluster.node.containers import Container, now, waiting
from tests.cluster.node.volumes import Volumes

POLL_SECONDS = 0.05
PULL_RETRY_SECONDS = 2.0
RESTART_SECONDS = 1.0


class Pod(threading.Thread):
    """Runs one pod; ends when the pod has finished and been reported, or has been deleted.

    Args:
        api: The API server.
        pod: As bound to this node.
        switch: Gives the pod its network.
        folder: Of this node; the pod makes its own inside.
        node_address: The node's, for the pod's status.
    """

    def __init__(
        self, api: Api, pod: Object, switch: network.Switch, folder: Path, node_address: str
    ) -> None:
        super().__init__(daemon=True)
        metadata = pod["metadata"]
        self.folder = folder / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        self._api, self._pod, self._switch = api, pod, switch
        self._node_address = node_address
        self._deadline: float | None = None  # set once the pod is being deleted
        self._deleted, self._gone = threading.Event(), threading.Event()
        self._network: network.PodNetwork | None = None
        self._statuses: dict[str, Object] = {}
        self._conditions: dict[str, Object] = {}
        self._started_at = now()
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def see(self, pod: Object, gone: bool) -> None:
        """Return the API server's newest version; `gone` when it has no such pod any more."""
        self._pod = pod
        if gone:
            self._gone.set()
        if gone or pod["metadata"].get("deletionTimestamp"):
            if not self._deleted.is_set():
                grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
                self._deadline = time.monotonic() + grace
            self._deleted.set()

    def run(self) -> None:
        """Return the whole life of the pod."""
        phase = "Failed"
        try:
            self.folder.mkdir(parents=True)
            self._network = self._switch.connect()
            phase = self._run_containers()
        except Exception as error:
            self._report("Failed", reason="NodeError", message=repr(error)[:1000])
            raise
        finally:
            if self._network:
                self._network.close()
            if not self._gone.is_set():
                self._report(phase)
            self._deleted.wait()
            if not self._gone.is_set():
                body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
                self._api.persistently(lambda: self._api.delete(self._path, body))

    @property
    def _uid(self) -> str:
        uid: str = self._pod["metadata"]["uid"]
        return uid

    def _run_containers(self) -> str:
        spec = self._pod["spec"]
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            self._statuses[container["name"]] = waiting(container, "ContainerCreating")
        self._report("Pending")
        volumes = self._persistent_volumes()
        if volumes is None:
            return "Failed"
        policy = spec.get("restartPolicy", "Always")
        initial = "OnFailure" if policy == "Always" else policy
        for container in spec.get("initContainers") or []:
            if self._run_to_the_end([container], volumes, initial, "Pending") != 0:
                return "Failed"
        code = self._run_to_the_end(spec["containers"], volumes, policy, "Running")
        return "Succeeded" if code == 0 else "Failed"

    def _persistent_volumes(self) -> Volumes | None:
        """Return the volumes; waits for what they refer to, as kubelet does."""
        while not self._deleted.is_set():
            try:
                return Volumes(self._api, self._pod, self.folder, self._field)
            except Exception as error:
                print(f"{self._path}: volumes: {error!r}", file=sys.stderr, flush=True)
                self._deleted.wait(PULL_RETRY_SECONDS)
        return None

    def _start(self, spec: Object, volumes: Volumes, restarts: int) -> Container | None:
        """Start a container; None if the pod was deleted before its image or settings came."""
        while not self._deleted.is_set():
            found = image.find(spec["image"], self.folder.parent)
            if found is None:
                problem = ("ImagePullBackOff", f'Back-off pulling image "{spec["image"]}"')
            else:
                try:
                    variables = environment.variables(
                        self._api, self._pod, spec, self._image_variables(found), self._field
                    )
                except Exception as error:
                    problem = ("CreateContainerConfigError", str(error))
                else:
                    started = self._container(spec, found, variables, volumes, restarts)
                    self._statuses[spec["name"]] = started.status()
                    return started
            if self._statuses[spec["name"]] != waiting(spec, *problem):
                self._statuses[spec["name"]] = waiting(spec, *problem)
                self._report("Pending")
            self._deleted.wait(PULL_RETRY_SECONDS)
        return None

    def _image_variables(self, found: image.Image) -> dict[str, str]:
        port = self._api.server.rsplit(":", 1)[1]  # pods come in through the switch
        return {
            **found.environment,
            "HOSTNAME": self._hostname,
            "KUBERNETES_SERVICE_HOST": network.GATEWAY,
            "KUBERNETES_SERVICE_PORT": port,
        }

    def _container(
        self,
        spec: Object,
        found: image.Image,
        variables: dict[str, str],
        volumes: Volumes,
        restarts: int,
    ) -> Container:
        assert self._network
        etc = self.folder / "etc"
        etc.mkdir(exist_ok=True)
        namespace = self._pod["metadata"]["namespace"]
        (etc / "resolv.conf").write_text(network.resolver_file(namespace))
        (etc / "hosts").write_text(network.hosts_file(self._hostname, self._network.address))
        own = [(str(etc / name), f"/etc/{name}", False) for name in ("resolv.conf", "hosts")]
        security = {
            **self._pod["spec"].get("securityContext", {}),
            **spec.get("securityContext", {}),
        }
        user, group = security.get("runAsUser", 1000), security.get("runAsGroup", 1000)
        command = [*spec.get("command", found.entry_point), *spec.get("args", [])]
        scratch = self.folder / spec["name"] / str(restarts)
        (scratch / "root").mkdir(parents=True)
        described = {
            "network": self._network.holder.pid,
            "hostname": self._hostname,
            "root": str(scratch / "root"),
            "read_only": security.get("readOnlyRootFilesystem", False),
            "mounts": [*found.mounts, *own, *volumes.mounts(spec)],
            "command": [environment.expand(part, variables) for part in command],
            "environment": variables,
            "folder": spec.get("workingDir", found.folder),
            "user": user,
            "group": group,
            "groups": [security["fsGroup"]] if "fsGroup" in security else [],
            "pid_file": str(scratch / "pid"),
        }
        return Container(spec, described, scratch, restarts)

    def _run_to_the_end(
        self, specs: list[Object], volumes: Volumes, policy: str, phase: str
    ) -> int | None:
        """Start containers, restart them as `policy` says; the worst exit code at the end.

        None if the pod was deleted before one could start.
        """
        running: dict[str, Container] = {}
        codes: dict[str, int] = {}
        restarts = dict.fromkeys((spec["name"] for spec in specs), 0)
        asked = False
        for spec in specs:
            started = self._start(spec, volumes, 0)
            if started is None:
                break
            running[spec["name"]] = started
        complete = len(running) == len(specs)
        self._report(phase)
        while running:
            if self._deleted.is_set() and not asked:
                asked = True
                for process in running.values():
                    process.signal(signal.SIGTERM)
            if asked and time.monotonic() >= (self._deadline or 0):
                for process in running.values():
                    process.signal(signal.SIGKILL)
            changed = self._probe(running)
            for spec in specs:
                name = spec["name"]
                code = running[name].code() if name in running else None
                if code is None:
                    continue
                codes[name], changed = code, True
                self._statuses[name] = running.pop(name).status()
                again = policy == "Always" or (policy == "OnFailure" and code != 0)
                if again and not self._deleted.wait(RESTART_SECONDS):
                    restarts[name] += 1
                    started = self._start(spec, volumes, restarts[name])
                    if started is not None:
                        running[name] = started
            if changed and running:
                self._report(phase)
            time.sleep(POLL_SECONDS)
        return max(codes.values()) if complete else None

    def _probe(self, running: dict[str, Container]) -> bool:
        """Ask the containers that say how whether they are ready; whether that changed."""
        before = {name: self._statuses[name] for name in running}
        for name, process in running.items():
            self._statuses[name] = process.status()
        return any(self._statuses[name]["ready"] != before[name]["ready"] for name in running)

    def _report(self, phase: str, reason: str = "", message: str = "") -> None:
        initial = [container["name"] for container in self._pod["spec"].get("initContainers") or []]
        names = [container["name"] for container in self._pod["spec"]["containers"]]
        ready = phase == "Running" and all(self._statuses[name]["ready"] for name in names)
        started = phase != "Pending"
        self._set("Initialized", started or not initial)
        self._set("ContainersReady", ready)
        self._set("Ready", ready)
        status: Object = {
            "phase": phase,
            "startTime": self._started_at,
            "hostIP": self._node_address,
            "conditions": list(self._conditions.values()),
            "containerStatuses": [self._statuses[n] for n in names if n in self._statuses],
            "initContainerStatuses": [self._statuses[n] for n in initial if n in self._statuses],
        }
        if self._network:
            status["podIP"] = self._network.address
            status["podIPs"] = [{"ip": self._network.address}]
        if reason:
            status |= {"reason": reason, "message": message}
        body = {"metadata": {"uid": self._uid}, "status": status}
        self._api.persistently(lambda: self._api.patch(f"{self._path}/status", body))

    def _set(self, kind: str, value: bool) -> None:
        text = str(value)
        if self._conditions.get(kind, {}).get("status") != text:
            self._conditions[kind] = {
                "type": kind,
                "status": text,
                "lastTransitionTime": now(),
            }

    @property
    def _hostname(self) -> str:
        spec = self._pod["spec"]
        name: str = spec.get("hostname") or self._pod["metadata"]["name"]
        return name[:63]

    def _field(self, path: str) -> str:
        """Return the downward API."""
        if path in ("status.podIP", "status.hostIP"):
            assert self._network
            return self._network.address if path == "status.podIP" else self._node_address
        part, _, key = path.partition("['")
        value: Any = self._pod
        for name in part.split("."):
            value = value.get(name, {})
        if key:
            return str(value.get(key.removesuffix("']"), ""))
        if isinstance(value, dict):
            return "\n".join(f"{name}={json.dumps(text)}" for name, text in sorted(value.items()))
        return str(value)
