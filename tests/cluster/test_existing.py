"""With `KUBECONFIG` the tests use that cluster and leave it as it was; here it is their own one.

`conftest.py` lets this file run before any test that installs the platform there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.access import NAMESPACE, REPOSITORY, WAIT_SECONDS, is_ready, until
from tests.cluster.api import ApiError
from tests.cluster.existing import existing_platform
from tests.cluster.own import Cluster
from tests.cluster.simulated import NODE

LAYOUT = "tests/cluster/test_layouts.py::test_exit_code_143_restarts_the_worker"


def everything(cluster: Cluster) -> Counter[str]:
    """Return all objects by kind and name, without those that only record events."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    listed = ",".join(kind for kind in kinds if not kind.startswith("events"))
    return Counter(cluster.kubectl("get", listed, "-A", "-o=name").split())


@pytest.fixture
def theirs(cluster: Cluster) -> Iterator[Cluster]:
    """Provide a cluster without objects of the tests; its objects are the same after the test."""
    before = everything(cluster)
    assert f"namespace/{NAMESPACE}" not in before, "another test installed the platform before"
    yield cluster
    assert everything(cluster) == before


def test_runs_are_launched_and_watched_there(theirs: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", LAYOUT, "tests/cluster/test_run.py"],
        cwd=REPOSITORY,
        env=theirs.environment,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout, done.stdout
    assert "a control plane and nodes of its own: unset KUBECONFIG" in done.stdout


def test_an_interrupted_test_cleans_up(theirs: Cluster) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "pytest", LAYOUT],
        cwd=REPOSITORY,
        env=theirs.environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until("the node is there", lambda: is_ready(theirs.api, NODE) or running.poll() is not None)
        os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does, to all of them
        assert running.wait(WAIT_SECONDS) == pytest.ExitCode.INTERRUPTED
    finally:
        running.kill()


def test_what_is_there_already_is_not_touched(
    theirs: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}"
    theirs.kubectl("create", "namespace", NAMESPACE)
    monkeypatch.setenv("KUBECONFIG", str(theirs.kubeconfig))
    with pytest.raises(RuntimeError, match=rf"has namespace/{NAMESPACE}, "), existing_platform():
        pass
    assert theirs.api.get(path)["status"]["phase"] == "Active"
    theirs.kubectl("delete", "namespace", NAMESPACE)
    with pytest.raises(ApiError):
        theirs.api.get(path)


def test_a_cluster_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="KUBECONFIG names no cluster"), existing_platform():
        pass
