"""Access of the tests to a cluster, whoever started it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.api import Api, ApiError, Object
from tests.cluster.binaries import Binaries
from tests.conftest import Outcome, mobilenet

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "mobilenet"
PLATFORM = REPOSITORY / "k8s" / "overlays" / "local" / "platform"
QUEUE = REPOSITORY / "k8s" / "components" / "kueue-queue" / "queue.yaml"
GROUPS = {
    "tfjobs": "/apis/kubeflow.org/v1",
    "jobsets": "/apis/jobset.x-k8s.io/v1alpha2",
    "localqueues": "/apis/kueue.x-k8s.io/v1beta2",
    "jobs": "/apis/batch/v1",
    "pods": "/api/v1",
    "configmaps": "/api/v1",
}
WAIT_SECONDS = 600.0  # for a loaded machine


@dataclass(frozen=True, kw_only=True)
class AnyCluster:
    """A cluster that answers.

    Attributes:
        api: An administrator's access.
        kubeconfig: The same, for programs.
        binaries: Ours.
        simulator: Name of the kwok that plays nodes there, if one does.
        checkout: Whose `mobilenet` and manifests are used.
        namespace: Of the platform and its runs.
    """

    api: Api
    kubeconfig: Path
    binaries: Binaries
    simulator: str = ""
    checkout: Path = REPOSITORY
    namespace: str = NAMESPACE

    @property
    def environment(self) -> dict[str, str]:
        """For programs that talk to it."""
        programs = self.binaries.folder / "bin"
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def mobilenet(self, *arguments: str) -> Outcome:
        """Run a command of ours against the cluster."""
        return mobilenet(
            *arguments, timeout_seconds=WAIT_SECONDS, folder=self.checkout, **self.environment
        )

    def serves(self, kind: str) -> bool:
        """Return whether the cluster serves a kind of `GROUPS` in the version that is used."""
        try:
            served = self.api.get(GROUPS[kind])["resources"]
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return kind in {resource["name"] for resource in served}

    def require(self, kind: str) -> None:
        """Skip the test on a cluster of the user that lacks what it is about."""
        if not self.serves(kind):
            pytest.skip(f"KUBECONFIG's cluster does not serve {GROUPS[kind]}/{kind}")

    def jobs(self, kind: str, run: str) -> list[Object]:
        """Return the `tfjobs`, `jobsets`, `jobs` or `pods` of a run, oldest first."""
        path = f"{self.path(kind)}?labelSelector=mobilenet/run={run}"
        return sorted(
            self.api.get(path)["items"], key=lambda item: item["metadata"]["creationTimestamp"]
        )

    def state(self, run: str) -> Object:
        """Return the state in a run's record."""
        state: Object = json.loads(
            self.api.get(f"{self.path('configmaps')}/{run}")["data"]["state"]
        )
        return state

    def is_over(self, run: str, stage: str) -> bool:
        """Return whether a stage, or the whole run, has ended."""
        state = self.state(run)
        return stage in state["done"] or bool(state["outcome"])

    def path(self, kind: str) -> str:
        """Return the path of all objects of a kind of `GROUPS` in the namespace."""
        return f"{GROUPS[kind]}/namespaces/{self.namespace}/{kind}"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; its output."""
        done = subprocess.run(
            [*self.binaries.program("kubectl"), *arguments],
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


def until(what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Wait until `condition()` is true and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)
    return found


def is_ready(api: Api, node: str) -> bool:
    """Return whether a node exists and accepts pods."""
    try:
        found = api.get(f"/api/v1/nodes/{node}")
    except ApiError:
        return False
    conditions = {
        condition["type"]: condition["status"]
        for condition in found["status"].get("conditions", [])
    }
    taints = {taint["key"] for taint in found["spec"].get("taints", [])}
    return conditions.get("Ready") == "True" and not any(
        taint.startswith("node.kubernetes.io/") for taint in taints
    )
