"""The user's own cluster, which `KUBECONFIG` names: tested on, and left as it was.

Nothing but kwok and a supervisor is started, both on this machine. The cluster must have the
Training Operator; what needs JobSet or Kueue is skipped without them. The platform's servers are
not installed: their images need not be where this cluster could pull them.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import urllib3
import yaml

from tests.cluster.access import GROUPS, PLATFORM, QUEUE, REPOSITORY, AnyCluster
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.binaries import Binaries, built
from tests.cluster.control_plane import Daemon
from tests.cluster.own import volume
from tests.cluster.simulated import SIMULATED, Simulator

SERVERS = ("Deployment", "StatefulSet")
REMOVAL_SECONDS = 300
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def existing_platform() -> Iterator[AnyCluster]:
    """Provide the user's cluster with the platform, and remove the platform afterwards."""
    binaries = built()
    # Not among pytest's folders, which stay: it holds the user's credentials.
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kubeconfig = _copied_kubeconfig(binaries, folder)
        simulator = Simulator(binaries, kubeconfig, folder / "simulated")
        cluster = AnyCluster(
            api=_reached(kubeconfig),
            kubeconfig=kubeconfig,
            binaries=binaries,
            simulator=simulator.name,
        )
        documents = _documents(cluster)
        _refuse(cluster, documents)
        for number in INTERRUPTS:
            signal.signal(number, _end)
        stack.callback(simulator.kwok.stop)
        simulator.kwok.start()
        stack.callback(_remove, cluster, documents)
        cluster.apply(*documents)
        supervisor = _supervisor(cluster, folder)
        stack.callback(supervisor.stop)
        supervisor.start()
        yield cluster


def _copied_kubeconfig(binaries: Binaries, folder: Path) -> Path:
    """Return the current context alone, so that a change of context in between does not move us."""
    done = subprocess.run(
        [*binaries.program("kubectl"), "config", "view", "--minify", "--flatten", "--raw"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"KUBECONFIG names no cluster: {done.stderr.strip()}")
    copy = folder / "kubeconfig"
    copy.write_text(done.stdout)
    return copy


def _reached(kubeconfig: Path) -> Api:
    try:
        api = Api(kubeconfig)
        api.get("/api/v1/nodes?limit=1")
    except (ApiError, OSError, urllib3.exceptions.HTTPError) as error:
        raise RuntimeError(f"KUBECONFIG's cluster cannot be used: {error}") from None
    return api


def _documents(cluster: AnyCluster) -> list[Object]:
    """Return all that is installed."""
    rendered = cluster.kubectl("kustomize", str(PLATFORM))
    documents = [
        document for document in yaml.safe_load_all(rendered) if document["kind"] not in SERVERS
    ]
    for document in documents:
        if document["kind"] == "PersistentVolumeClaim":
            document["spec"]["storageClassName"] = ""  # ours, not one of the user's
    if cluster.serves("localqueues"):
        documents += yaml.safe_load_all(QUEUE.read_text())
    return [volume(Path("/nowhere")), *documents]


def _cluster_wide(documents: list[Object]) -> str:
    """Return the objects outside namespaces, and the namespace itself, as YAML."""
    return yaml.safe_dump_all(
        document for document in documents if "namespace" not in document["metadata"]
    )


def _refuse(cluster: AnyCluster, documents: list[Object]) -> None:
    if not cluster.serves("tfjobs"):
        raise RuntimeError(
            f"KUBECONFIG's cluster does not serve {GROUPS['tfjobs']}/tfjobs: install the Training "
            "Operator there (docs/operations.md), or unset KUBECONFIG"
        )
    wanted = _cluster_wide(documents)
    existing = cluster.kubectl("get", "-f=-", "--ignore-not-found", "-o=name", stdin=wanted).split()
    existing += cluster.kubectl("get", "nodes", f"--selector={SIMULATED}", "-o=name").split()
    if existing:
        raise RuntimeError(
            f"KUBECONFIG's cluster has {', '.join(existing)}, which these tests would make and "
            "delete: use another cluster, or delete them if a killed run of the tests left them"
        )
    kinds = {document["kind"] for document in yaml.safe_load_all(wanted)} | {"Node"}
    if denied := sorted(kind for kind in kinds if not _may_delete(cluster, kind)):
        raise RuntimeError(
            f"KUBECONFIG's user may not delete {', '.join(denied)}, and the tests clean up after "
            "themselves: use an administrator's"
        )


def _may_delete(cluster: AnyCluster, kind: str) -> bool:
    command = [*cluster.binaries.program("kubectl"), "auth", "can-i", "delete", kind]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, check=False)
    return done.returncode == 0


def _end(*_: object) -> None:
    """End an interrupted process, which another Ctrl-C would keep from cleaning up."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _remove(cluster: AnyCluster, documents: list[Object]) -> None:
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    delete = ("delete", "--ignore-not-found", f"--timeout={REMOVAL_SECONDS}s")
    try:
        cluster.kubectl(*delete, "-f=-", stdin=_cluster_wide(documents))
    finally:
        cluster.kubectl(*delete, "nodes", f"--selector={SIMULATED}={cluster.simulator}")


def _supervisor(cluster: AnyCluster, folder: Path) -> Daemon:
    """Run here what the platform's Deployment of this name runs."""
    command = [sys.executable, "-m", "pipeline", "watch", "--stay"]
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(folder),  # its client library leaves credentials in files there
    }
    return Daemon("supervisor", command, folder, environment)
