"""What a cluster does to those who watch over runs: each of these is survived, with its reason."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.api.requests import Query
from pipeline.cluster.record import MAX_RENDERED_BYTES
from pipeline.cluster.render import ATTEMPT_LABEL, STAGE_LABEL
from pipeline.cluster.spec import MAX_NAME_LENGTH
from tests.cluster.access import NAMESPACE, AnyCluster, until
from tests.cluster.own import Cluster
from tests.cluster.runs import conditions
from tests.cluster.simulated import NODE, QUICK_NODE, exits, gpu_node, workers

GPUS = ("launch", "--variant=mobilenet_v2_1.0_224", "--overlay=local", "--gpus=8", "--layout=2x4")
# A supervisor whose clock is some minutes wrong.
SKEWED = """
import sys
from datetime import UTC, datetime, timedelta
from pipeline.cluster import record
from pipeline.cli.entry_point import main
skew = timedelta(minutes=float(sys.argv[1]))
record.now = lambda: datetime.now(UTC) + skew
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def quick(platform: Cluster) -> Iterator[Cluster]:
    """Provide the cluster with a node of 8 GPUs whose pods succeed after seconds."""
    with gpu_node(platform, QUICK_NODE) as cluster:
        yield cluster


@pytest.fixture
def busy(platform: Cluster) -> Iterator[Cluster]:
    """Provide the cluster with a node of 8 GPUs whose pods run until a test ends them."""
    with gpu_node(platform, NODE) as cluster:
        yield cluster


@contextlib.contextmanager
def started(
    command: list[str], cluster: AnyCluster, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of Python beside the test, with its messages in a file."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=cluster.checkout,
            env={**cluster.environment, **environment},
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def launch(cluster: AnyCluster, run: str, *flags: str) -> None:
    done = cluster.mobilenet(*GPUS, f"--name={run}", "--detach", *flags)
    assert done.code == 0, done.err


def succeeds(cluster: AnyCluster, run: str) -> None:
    until(f"{run} ends", lambda: cluster.state(run)["outcome"])
    assert cluster.state(run)["outcome"] == "succeeded", cluster.state(run)


def bound_token(cluster: AnyCluster, account: str, secret: str) -> str:
    """Return a token that is valid as long as a secret exists."""
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": named(secret)})
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    bound = {"kind": "Secret", "apiVersion": "v1", "name": secret}
    made = cluster.api.create(
        f"{accounts}/{account}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound, "audiences": []},
        },
    )
    token: str = made["status"]["token"]
    return token


def named(name: str) -> dict[str, str]:
    return {"name": name, "namespace": NAMESPACE}


def write_kubeconfig(cluster: AnyCluster, path: Path, token: str) -> None:
    """Write the cluster's kubeconfig with another user, complete or not at all."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    new.replace(path)


def test_a_supervisor_whose_token_is_revoked_goes_on_with_the_next(
    busy: Cluster, tmp_path: Path
) -> None:
    account = "engineer"
    busy.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named(account)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": named(account),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "launcher",
            },
            "subjects": [{"kind": "ServiceAccount", **named(account)}],
        },
    )
    kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "log"
    write_kubeconfig(busy, kubeconfig, bound_token(busy, account, "first"))
    launch(busy, "revoked")
    until("all workers run", lambda: len(workers(busy, "revoked", "Running")) == 2)
    command = ["-m", "pipeline", "watch", "revoked"]
    with started(command, busy, log, KUBECONFIG=str(kubeconfig)) as watching:
        until("it watches", lambda: "train running" in log.read_text())
        busy.api.delete(f"/api/v1/namespaces/{NAMESPACE}/secrets/first")
        until("it is logged out", lambda: "does not accept your credentials" in log.read_text())
        assert watching.poll() is None
        write_kubeconfig(busy, kubeconfig, bound_token(busy, account, "second"))
        exits(busy, workers(busy, "revoked")[0], 3)
        assert watching.wait(300) == 3, log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_watch_of_a_version_that_is_gone_ends_and_the_next_one_shows_everything(
    platform: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started again no longer has the versions before."""
    platform.plane.api_server.stop()
    platform.plane.api_server.start()
    platform.api.persistently(lambda: platform.api.get("/api/v1/nodes"))
    monkeypatch.setenv("KUBECONFIG", str(platform.kubeconfig))
    gateway, stop = Gateway(NAMESPACE), threading.Event()
    answered: list[str] = []
    lines = gateway._requests.lines

    def outdated(attempted: str, path: str, query: Query, read_seconds: float) -> Iterator[str]:
        for line in lines(attempted, path, [*query, ("resourceVersion", "1")], read_seconds):
            answered.append(line)
            yield line

    with monkeypatch.context() as once:
        once.setattr(gateway._requests, "lines", outdated)
        assert list(gateway.watch("Pod", "", stop)) == []
    assert '"code":410' in answered[-1]
    assert next(gateway.watch("Pod", "", stop))["kind"] == "Pod"


def test_supervisors_whose_clocks_differ_by_20_minutes_agree(
    quick: Cluster, tmp_path: Path
) -> None:
    """Together with the cluster's own, three of them submit each attempt once."""
    launch(quick, "skewed", "--deadline-hours=1")
    with contextlib.ExitStack() as stack:
        supervisors = [
            stack.enter_context(
                started(["-c", SKEWED, minutes, "watch", "skewed"], quick, tmp_path / minutes)
            )
            for minutes in ("-10", "10")
        ]
        for minutes, supervisor in zip(("-10", "10"), supervisors, strict=True):
            assert supervisor.wait(600) == 0, (tmp_path / minutes).read_text()
    succeeds(quick, "skewed")
    labels = [
        job["metadata"]["labels"]
        for kind in ("tfjobs", "jobs")
        for job in quick.jobs(kind, "skewed")
    ]
    assert {stage[ATTEMPT_LABEL] for stage in labels} == {"1"}
    stages = [stage[STAGE_LABEL] for stage in labels]
    assert sorted(set(stages)) == sorted(stages)


def test_the_longest_name_runs_and_a_longer_one_is_refused(quick: Cluster) -> None:
    longest = "a" * MAX_NAME_LENGTH
    launch(quick, longest)
    succeeds(quick, longest)
    refused = quick.mobilenet(*GPUS, f"--name={longest}a", "--detach")
    assert refused.code == 2
    assert f"at most {MAX_NAME_LENGTH}" in refused.err


def test_a_record_near_its_limit_runs_and_one_beyond_it_is_refused(quick: Cluster) -> None:
    path = quick.checkout / "k8s" / "overlays" / "local" / "jobs" / "kustomization.yaml"
    before = path.read_text()
    overlay = yaml.safe_load(before)

    def launched_with(characters: int) -> tuple[int, str]:
        note = {"metadata": {"name": "any", "annotations": {"note": "x" * characters}}}
        patches = [
            {"target": {"kind": kind}, "patch": yaml.safe_dump({**head, **note})}
            for kind, head in (
                ("TFJob", {"apiVersion": "kubeflow.org/v1", "kind": "TFJob"}),
                ("Job", {"apiVersion": "batch/v1", "kind": "Job"}),
            )
        ]
        path.write_text(yaml.safe_dump({**overlay, "patches": [*overlay["patches"], *patches]}))
        done = quick.mobilenet(*GPUS, "--name=large", "--detach")
        return done.code, done.err

    try:
        stages = 4
        code, message = launched_with(MAX_RENDERED_BYTES // stages)
        assert code == 2, message
        assert f"holds at most {MAX_RENDERED_BYTES:,}" in message
        code, message = launched_with(MAX_RENDERED_BYTES // stages - 10_000)
        assert code == 0, message
    finally:
        path.write_text(before)
    succeeds(quick, "large")


def test_a_job_that_its_ttl_removed_before_anyone_saw_its_end_is_made_up_for(
    quick: Cluster,
) -> None:
    (pod,) = quick.api.get(
        f"{quick.path('pods')}?labelSelector=app.kubernetes.io/component=supervisor"
    )["items"]
    supervisor = quick.process(pod["metadata"]["name"], pod["spec"]["containers"][0]["name"])
    launch(quick, "vanished")
    until("it is submitted", lambda: quick.jobs("tfjobs", "vanished"))
    os.kill(supervisor, signal.SIGSTOP)
    try:
        until(
            "it is trained", lambda: "Succeeded" in conditions(quick.jobs("tfjobs", "vanished")[0])
        )
        (job,) = quick.jobs("tfjobs", "vanished")
        assert quick.state("vanished")["done"] == []
        quick.api.delete(f"{quick.path('tfjobs')}/{job['metadata']['name']}")
        until("it is gone", lambda: not quick.jobs("tfjobs", "vanished"))
    finally:
        os.kill(supervisor, signal.SIGCONT)
    succeeds(quick, "vanished")


def test_a_pod_on_a_node_that_does_not_answer_holds_the_next_attempt_and_is_named(
    busy: Cluster,
) -> None:
    launch(busy, "unknown")
    until("all workers run", lambda: len(workers(busy, "unknown", "Running")) == 2)
    held = workers(busy, "unknown")[0]
    path = f"{busy.path('pods')}/{held['metadata']['name']}"
    # As on a node whose kubelet is away, only the node's return or removal lets the pod go.
    busy.api.patch(path, {"metadata": {"finalizers": ["mobilenet/test-node-is-away"]}})
    busy.api.delete(path)
    try:
        until(
            "the table names it",
            lambda: f"{held['metadata']['name']} is not gone yet" in busy.mobilenet("jobs").out,
        )
        assert len(busy.jobs("tfjobs", "unknown")) == 1
    finally:
        busy.api.patch(path, {"metadata": {"finalizers": None}}, "merge")
    until("the next attempt comes", lambda: len(busy.jobs("tfjobs", "unknown")) == 2)
    assert busy.mobilenet("stop", "unknown").code == 0
