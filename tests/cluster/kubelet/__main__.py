"""`python -m tests.cluster.kubelet ARCHIVE...`: a whole run under a real kubelet, in our images.

The archives are what `docker save` wrote: together mobilenet-ingest, -train and -registry, 0.1.0.
Everything runs in namespaces of its own and ends with them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import operators
from tests.cluster.access import NAMESPACE, PLATFORM, AnyCluster, is_ready
from tests.cluster.api import Api
from tests.cluster.binaries import built, built_kubelet
from tests.cluster.control_plane import ControlPlane, die_with_parent
from tests.cluster.kubelet.node import CNI_PLUGINS, NODE, Node, isolate, remove_cgroups
from tests.cluster.own import open_to_pods, volume

IMAGES = tuple(
    f"docker.io/library/mobilenet-{role}:0.1.0" for role in ("ingest", "train", "registry")
)
VARIANT = "mobilenet_v2_0.35_64"
STEPS = 40
STAGES = ["prepare", "train", "evaluate", "export", "publish"]
WAIT_SECONDS = 1200.0
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")


def main() -> None:
    """Enter the namespaces; clean up what outlives them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        try:
            run(arguments.inside, arguments.archives)
        except RuntimeError as error:
            sys.exit(str(error))
        return
    needed = ("unshare", "ip", "containerd", "runc", "ctr", f"{CNI_PLUGINS}/bridge")
    missing = [name for name in needed if not shutil.which(name)] + ["root"] * bool(os.geteuid())
    if missing:
        sys.exit(
            "tests.cluster.kubelet needs root and Debian's packages containerd, runc, iproute2 "
            f"and containernetworking-plugins; missing: {', '.join(missing)}"
        )
    if absent := [str(archive) for archive in arguments.archives if not archive.is_file()]:
        sys.exit(f"{', '.join(absent)} not found: write it with docker save or buildah push")
    try:
        built(), built_kubelet()
    except (RuntimeError, pytest.skip.Exception, pytest.fail.Exception) as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="kubelet-") as folder:
        inside = [f"--inside={folder}", *map(str, arguments.archives)]
        command = [
            *("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-m", "tests.cluster.kubelet", *inside),
        ]
        try:
            sys.exit(subprocess.run(command, check=False, preexec_fn=die_with_parent).returncode)
        finally:
            remove_cgroups(Path(folder))


def run(folder: Path, archives: list[Path]) -> None:
    """Start everything, launch, and check what came of it.

    Raises:
        RuntimeError: It does not come to that.
        AssertionError: Something else came of it.
    """
    isolate(folder)
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(ControlPlane(built(), folder / "plane").running())
        kubectl = [*plane.binaries.program("kubectl"), f"--kubeconfig={plane.kubeconfig}"]
        api = Api(plane.kubeconfig)
        operator = operators.training_operator(plane, api, kubectl)
        stack.callback(operator.stop)
        operator.start()
        node = Node(plane, folder)
        stack.callback(node.containerd.stop)
        node.start()
        for archive in archives:
            timed(f"{archive.name} is imported", functools.partial(node.load, archive))
        if absent := set(IMAGES) - set(node.images()):
            raise RuntimeError(f"no archive has {', '.join(sorted(absent))}")
        stack.callback(node.kubelet.stop)
        node.kubelet.start()
        timed("the node is ready", functools.partial(is_ready, api, NODE))
        operator.wait_until_ready()
        try:
            cluster = AnyCluster(api=api, kubeconfig=plane.kubeconfig, binaries=plane.binaries)
            whole_run(cluster, folder / "data")
        except BaseException:
            for name in ("get pods -o wide", "get events", "describe pods"):
                subprocess.run([*kubectl, *name.split(), f"--namespace={NAMESPACE}"], check=False)
            raise
        finally:  # pods end as kubelet ends them, so that its mounts go
            subprocess.run(
                [*kubectl, "delete", "namespace", NAMESPACE, "--timeout=120s"], check=False
            )


def whole_run(cluster: AnyCluster, data: Path) -> None:
    """Platform, archives and `launch --pipeline` of two workers, to the end."""

    def mobilenet(*arguments: str) -> str:
        done = cluster.mobilenet(*arguments)
        assert done.code == 0, done.err
        return done.out

    mobilenet("sample", f"--output={data}/source")
    open_to_pods(data)
    cluster.apply(volume(data))
    cluster.kubectl("apply", "--server-side", "-k", str(PLATFORM))
    servers = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    timed(
        "tensorboard, mlflow and the supervisor are ready",
        lambda: all(
            item["status"].get("readyReplicas") for item in cluster.api.get(servers)["items"]
        ),
    )
    mobilenet(
        *("launch", f"--variant={VARIANT}", "--recipe=demo", "--overlay=local", "--gpus=0"),
        *("--workers=2", f"--set=training.total_images={96 * STEPS}", "--pipeline"),
        *("--name=whole", "--detach"),
    )
    for stage in STAGES:
        timed(f"{stage} is done", functools.partial(cluster.is_over, "whole", stage))
    state = cluster.state("whole")
    assert (state["done"], state["outcome"]) == (STAGES, "succeeded"), state
    for worker in range(2):
        pod = cluster.api.get(f"{cluster.path('pods')}/whole-train-1-worker-{worker}")
        (status,) = pod["status"]["containerStatuses"]
        assert pod["spec"]["nodeName"] == NODE
        assert status["image"] == IMAGES[1], status
        assert status["state"]["terminated"]["exitCode"] == 0, status
    # At 48 images a replica: one worker alone would take twice as many steps.
    assert f"train: step {STEPS}/{STEPS}" in mobilenet("logs", "whole", "--stage=train", "--tail=3")
    table = mobilenet("table", f"--published={data}/published")
    assert f"[{VARIANT}]" in table
    print(table)


def timed(what: str, condition: Callable[[], Any]) -> None:
    """Wait until `condition()` is true, and say how long it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > WAIT_SECONDS:
            raise RuntimeError(f"not within {WAIT_SECONDS:.0f} s: {what}")
        time.sleep(0.2)
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
