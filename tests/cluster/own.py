"""The cluster that the tests start; nothing of it remains afterwards."""

from __future__ import annotations

import contextlib
import functools
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import google_hosts
from tests.cluster import operators, simulated
from tests.cluster.access import (
    NAMESPACE,
    PLATFORM,
    QUEUE,
    REPOSITORY,
    WAIT_SECONDS,
    AnyCluster,
    is_ready,
    until,
)
from tests.cluster.api import Api, Object
from tests.cluster.binaries import built
from tests.cluster.control_plane import ControlPlane, Daemon
from tests.emulator import Emulator, running_emulator

REAL_NODES = ("real-0", "real-1")


@dataclass(frozen=True, kw_only=True)
class Cluster(AnyCluster):
    """The tests' own cluster, with nodes whose pods are real processes.

    Attributes:
        plane: What a test may stop and start.
        store: The store that pods find at Google's addresses.
        data: The folder that pods see as /data.
        pods: The agent's folder with each pod's log and process id.
    """

    plane: ControlPlane
    store: Emulator
    data: Path
    pods: Path

    def process(self, pod: str, container: str = "tensorflow") -> int:
        """Return the process id of the newest container of a pod, once the agent has noted it."""

        def noted() -> list[Path]:
            files = self.pods.glob(f"{self.namespace}_{pod}_*/{container}/*/pid")
            return sorted(
                (path for path in files if path.read_text()), key=lambda path: path.stat().st_mtime
            )

        newest: Path = until(f"the process of {pod} is noted", noted)[-1]
        return int(newest.read_text())

    def log(self, pod: str) -> str:
        """Return everything that the pods of that name wrote."""
        return "".join(
            path.read_text(errors="replace")
            for path in sorted(self.pods.glob(f"{self.namespace}_{pod}_*/*/*/log"))
        )


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Control plane, operators and two real nodes; stopped afterwards.

    Raises:
        RuntimeError: The programs cannot be built, or one does not start.
    """
    data = folder / "data"
    data.mkdir()
    binaries = built()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(running_emulator())
        plane = stack.enter_context(ControlPlane(binaries, folder / "plane").running())
        api = Api(plane.kubeconfig)
        kubectl = [*binaries.program("kubectl"), f"--kubeconfig={plane.kubeconfig}"]
        simulator = simulated.Simulator(binaries, plane.kubeconfig, folder / "simulated")
        daemons = [
            operators.training_operator(plane, api, kubectl),
            operators.jobset(plane, api, kubectl),
            operators.kueue(plane, api, kubectl),
            simulator.kwok,
            nodes(plane, folder / "nodes", store, *REAL_NODES),
        ]
        for daemon in daemons:
            stack.callback(daemon.stop)
            daemon.start()
        for daemon in daemons:
            daemon.wait_until_ready()
        for node in REAL_NODES:
            until(f"{node} is ready", functools.partial(is_ready, api, node))
        yield Cluster(
            api=api,
            kubeconfig=plane.kubeconfig,
            binaries=binaries,
            simulator=simulator.name,
            plane=plane,
            store=store,
            data=data,
            pods=folder / "nodes" / "pods",
        )


def nodes(plane: ControlPlane, folder: Path, store: Emulator, *names: str) -> Daemon:
    """Start a process that plays nodes; their pods' files are in `FOLDER/pods`."""
    keys = folder / "keys"
    plane.authority.sign("node").write(keys, "node")
    plane.authority.pair.write(keys, "ca")
    command = [
        *(sys.executable, "-m", "tests.cluster.node"),
        *(f"--kubeconfig={plane.kubeconfig}", f"--keys={keys}", f"--folder={folder}"),
        *(f"--store-port={store.port}", f"--authority={google_hosts.certificate()}"),
        *names,
    ]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    return Daemon(names[0], command, plane.logs, environment)


def install_platform(cluster: Cluster, archives: Path) -> None:
    """Put the archives in place and apply the platform; returns when its servers are ready."""
    shutil.copytree(archives, cluster.data / "source")
    open_to_pods(cluster.data)
    cluster.apply(volume(cluster.data))
    cluster.kubectl("apply", "--server-side", "-k", str(PLATFORM))
    cluster.kubectl("apply", "--server-side", "-f", str(QUEUE))
    for name in ("mlflow", "supervisor"):
        cluster.kubectl(
            *("wait", "-n", NAMESPACE, f"deployment/{name}", "--for=condition=Available"),
            f"--timeout={WAIT_SECONDS:.0f}s",
        )


def open_to_pods(data: Path) -> None:
    """Let pods, which run as another user, read the files of a folder and write into it."""
    for path in (data, *data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)


def volume(data: Path) -> Object:
    """Return the volume to which the claim of overlay `local` is bound."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "mobilenet-data"},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": NAMESPACE, "name": "data"},
            "hostPath": {"path": str(data)},
        },
    }
