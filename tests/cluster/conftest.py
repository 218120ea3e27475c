"""The cluster of the tests: one that they start, or with `KUBECONFIG` the user's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.access import AnyCluster, until
from tests.cluster.existing import existing_platform
from tests.cluster.node.network import can_make_namespaces
from tests.cluster.own import Cluster, install_platform, running_cluster
from tests.cluster.runs import LONG, launching


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what needs a cluster in which no test has installed the platform yet."""
    items.sort(key=lambda item: item.path.name != "test_existing.py")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Provide the tests' own cluster, with everything started."""
    if _theirs():
        pytest.skip("needs a control plane and nodes of its own: unset KUBECONFIG")
    if os.geteuid():
        pytest.exit("tests/cluster gives each pod a network: run make test-cluster as root", 2)
    if missing := [name for name in ("ip", "nsenter", "unshare") if not shutil.which(name)]:
        pytest.exit(f"{', '.join(missing)} not found: install iproute2 and util-linux", 2)
    if not can_make_namespaces():
        pytest.skip("pods need namespaces, which this machine's container does not let root make")
    try:
        with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
            yield running
    except RuntimeError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def platform(cluster: Cluster, archives: Path) -> Cluster:
    """Provide it with the platform of k8s/overlays/local, and with the archives."""
    install_platform(cluster, archives)
    return cluster


@pytest.fixture(scope="session")
def whole(platform: Cluster) -> str:
    """Make a run that nothing disturbs, supervised by the cluster's own supervisor."""
    launched = platform.mobilenet(*launching("whole", LONG, "--pipeline", "--detach"))
    assert launched.code == 0, launched.err
    until("the run ends", lambda: platform.state("whole")["outcome"], seconds=850)
    return "whole"


@pytest.fixture(scope="session")
def any_platform(request: pytest.FixtureRequest) -> AnyCluster:
    """Return a cluster with the platform on which nodes can be simulated: the user's or ours."""
    found: AnyCluster = request.getfixturevalue("existing" if _theirs() else "platform")
    return found


@pytest.fixture(scope="session")
def existing() -> Iterator[AnyCluster]:
    """Provide the user's cluster, with the platform while it is tested."""
    try:
        with existing_platform() as found:
            yield found
    except RuntimeError as error:
        pytest.exit(str(error), returncode=2)


def _theirs() -> bool:
    return bool(os.environ.get("KUBECONFIG"))
