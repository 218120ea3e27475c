"""Runs that are rendered from the local overlay, and an API server in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.entry_point import parse
from pipeline.cluster import launch
from pipeline.cluster.api.gateway import Gateway
from tests.k8s import tools
from tests.pipeline.cluster.fake_api import FakeApi, serving

LOCAL = ["launch", "--overlay=local", "--recipe=demo", "--name=run"]
CPU = [*LOCAL, "--variant=mobilenet_v2_0.35_64", "--gpus=0", "--workers=2"]


def rendered(*flags: str) -> launch.Rendered:
    """Return a run of two CPU workers, with more flags."""
    (found,) = launch.from_arguments(parse([*CPU, *flags]))
    return found


@pytest.fixture(scope="session", autouse=True)
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let `launch` find the pinned kustomize."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", tools.kustomize_on_path(tmp_path_factory.mktemp("kustomize")))
        yield


@pytest.fixture(scope="session")
def cpu_run() -> launch.Rendered:
    """Return a run of two CPU workers; not to be changed."""
    return rendered()


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """Provide a fake API server that KUBECONFIG names."""
    with serving(tmp_path / "kubeconfig") as served:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield served


@pytest.fixture
def gateway(api: FakeApi) -> Gateway:
    """Return the gateway to it."""
    return Gateway("mobilenet")
