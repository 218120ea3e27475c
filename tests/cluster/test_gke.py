"""The overlay `gke` as users have it: all data in a bucket, every stage killed once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from preprocessing import storage
from tests.cluster.access import REPOSITORY, until
from tests.cluster.gke import NAMESPACE, RUNBOOK, as_gke, install_by_runbook, run_line
from tests.cluster.own import Cluster
from tests.cluster.runs import SHORT, final_weights, launching, step
from tests.emulator import in_environment
from tests.google_hosts import TOKEN
from tests.runbook import command_lines
from tests.shallow_family import VARIANT

pytestmark = pytest.mark.timeout(2400)
BATCH = 16  # images of a step: each is a request to the store, with a TLS connection of its own
STAGES = ("prepare", "evaluate", "export", "publish")  # of one pod
ALREADY_RUN = ("kubectl apply", "kubectl -n mobilenet create secret")
RUN_ELSEWHERE = {  # lines of the runbook that other tests run
    "mobilenet launch --all": "tests/cluster/test_queue.py",
    "mobilenet launch --variant mobilenet_v2_0.35_96 --recipe demo --overlay local": (
        "tests/cluster/test_run.py"
    ),
    "mobilenet stop RUN": "tests/cluster/test_run.py",
    "mobilenet resume RUN": "tests/cluster/test_run.py",
    "kubectl delete pod": "tests/cluster/test_run.py",
    "mobilenet certify": "tests/pipeline/certificate/test_certify.py",
}


@pytest.fixture(scope="module")
def gke(
    cluster: Cluster, archives: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Provide the cluster with the platform, and with the archives in the bucket.

    This process can read the bucket, too.
    """
    platform = as_gke(cluster, tmp_path_factory.mktemp("checkout"))
    install_by_runbook(platform)
    with (
        pytest.MonkeyPatch.context() as patch,
        in_environment(cluster.store, patch, tensorflow=False),
    ):
        for archive in sorted(archives.iterdir()):
            storage.upload_file(str(archive), f"{cluster.store.bucket}/source/{archive.name}")
        yield platform


def launch(cluster: Cluster, run: str) -> None:
    """Launch a run from the archives on, and leave it to the supervisor in the cluster."""
    flags = (f"--namespace={NAMESPACE}", "--pipeline", "--detach")
    done = cluster.mobilenet(*launching(run, SHORT, *flags, overlay="gke", batch=BATCH))
    assert done.code == 0, done.err


def kill(cluster: Cluster, run: str, stage: str, is_in_the_middle: Callable[[], bool]) -> None:
    """Kill the pod of a stage once it has begun to write or read what it is about."""
    until(f"{stage} is in the middle", lambda: is_in_the_middle() or cluster.is_over(run, stage))
    assert not cluster.is_over(run, stage), (
        cluster.state(run),
        cluster.log(f"{run}-{stage}-*"),
    )
    os.kill(cluster.process(f"{run}-{stage}-1-*", stage), signal.SIGKILL)


@pytest.fixture(scope="module")
def runs(gke: Cluster) -> tuple[str, str]:
    """Make a run of which every stage is killed, and beside it one that needs the same records.

    Returns:
        The killed one, and the other: nothing disturbs its training, and it is stopped then.
    """
    names, bucket = ("one", "another"), gke.store.bucket

    def lists(folder: str, word: str = "") -> Callable[[], bool]:
        return lambda: any(word in name for name in storage.list_names(f"{bucket}/{folder}"))

    def reads(word: str) -> Callable[[], bool]:
        before = len(gke.store.requests)
        return lambda: any(word in path for _, path in gke.store.requests[before:])

    for name in names:
        launch(gke, name)
    until("one of them writes the records", lists("records", "train-"))
    run, other = sorted(names, key=lambda name: "waiting for it" in gke.log(f"{name}-prepare-*"))
    kill(gke, run, "prepare", lambda: True)
    until("the other has its records", lambda: gke.is_over(other, "prepare"))
    assert gke.mobilenet("stop", other, f"--namespace={NAMESPACE}").code == 0
    until("it trains", lambda: step(bucket, run) > 0)
    assert step(bucket, run) < SHORT
    os.kill(gke.process(f"{run}-train-1-worker-1"), signal.SIGKILL)
    until("it is trained", lambda: gke.is_over(run, "train"))
    kill(gke, run, "evaluate", reads("records%2Fval"))
    kill(gke, run, "export", lists("exports"))
    kill(gke, run, "publish", lists("published"))
    until("the run ends", lambda: gke.state(run)["outcome"])
    assert gke.mobilenet("resume", other, "--detach", f"--namespace={NAMESPACE}").code == 0
    until("the other is trained", lambda: gke.is_over(other, "train"))
    assert gke.mobilenet("stop", other, f"--namespace={NAMESPACE}").code == 0
    return run, other


def test_archives_in_a_bucket_become_a_published_model_though_each_stage_is_killed(
    gke: Cluster, runs: tuple[str, str]
) -> None:
    bucket, (killed, other) = gke.store.bucket, runs
    state = gke.state(killed)
    assert state["outcome"] == "succeeded", (state, gke.log(f"{killed}-*"))
    for stage in STAGES:
        pods = [pod for pod in gke.jobs("pods", killed) if f"-{stage}-" in pod["metadata"]["name"]]
        assert len(pods) == 2, f"{stage}: one pod that was killed, and one that went on"
    assert final_weights(bucket, killed) == final_weights(bucket, other)
    shown = gke.mobilenet("table", f"--published={bucket}/published")
    assert f"[{VARIANT}]" in shown.out
    assert gke.store.tokens == {TOKEN}, "the metadata server says who the pods are"
    assert storage.list_names(f"{bucket}/exports") == [killed]


def test_the_lines_of_the_runbook_work(gke: Cluster, runs: tuple[str, str]) -> None:
    assert all((REPOSITORY / test).exists() for test in RUN_ELSEWHERE.values())
    for line in command_lines(RUNBOOK):
        if line.startswith(("gcloud", "docker", "skaffold", *ALREADY_RUN, *RUN_ELSEWHERE)):
            continue
        if " port-forward " in line or line.count(" ") < 2:  # not served here; only a name
            continue
        cluster_wide = line.startswith(("kubectl", "mobilenet table", "mobilenet train"))
        flags = "" if cluster_wide else f" --namespace={NAMESPACE}"
        if line.startswith("mobilenet launch"):
            flags += " --dry-run"
        command = f"{line}{flags}"
        if line == "mobilenet jobs --follow":  # until it is told to stop
            command = f"timeout --signal=INT 10 {command}; test $? -eq 124"
        done = run_line(gke, command, runs[0])
        assert done.returncode == 0, (line, done.stderr)
