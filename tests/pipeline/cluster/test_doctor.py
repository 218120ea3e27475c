"""The doctor finds every problem, and says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.cluster import doctor
from pipeline.cluster.api.gateway import Gateway
from tests.pipeline.cluster.fake_api import FakeApi

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def healthy(api: FakeApi) -> FakeApi:
    """Return a cluster with operators, platform and GPUs, whose owner may do everything."""
    for name in (operator.crd for operator in doctor.operators()):
        versions = [{"name": "v1", "served": True}]
        api.put(f"{CRDS}/{name}", {"metadata": {"name": name}, "spec": {"versions": versions}})
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.put("/api/v1/namespaces/mobilenet", {"metadata": {"name": "mobilenet", "labels": labels}})
    api.put("/api/v1/namespaces/mobilenet/serviceaccounts/pipeline", {})
    put_node(api, "a", {"cloud.google.com/gke-accelerator": "nvidia-l4"})
    return api


def put_node(api: FakeApi, name: str, labels: dict[str, str]) -> None:
    doc: dict[str, Any] = {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}},
    }
    api.put(f"/api/v1/nodes/{name}", doc)


def wrong(gateway: Gateway) -> list[str]:
    return [finding.text for finding in doctor.examine(gateway, "local") if finding.wrong]


def test_a_healthy_cluster_has_no_findings(healthy: FakeApi, gateway: Gateway) -> None:
    assert not wrong(gateway)


def test_what_is_missing_is_named(healthy: FakeApi, gateway: Gateway) -> None:
    del healthy.objects[f"{CRDS}/tfjobs.kubeflow.org"]
    del healthy.objects["/api/v1/namespaces/mobilenet/serviceaccounts/pipeline"]
    operator, platform = wrong(gateway)
    assert "tfjobs.kubeflow.org is not installed" in operator
    assert "kubectl apply --server-side -k" in platform


def test_an_operator_that_looks_at_nothing_is_named(healthy: FakeApi, gateway: Gateway) -> None:
    path = "/apis/kubeflow.org/v1/namespaces/mobilenet/tfjobs/waiting"
    healthy.put(path, {"metadata": {"name": "waiting"}})
    (finding,) = wrong(gateway)
    assert "has not looked at TFJob waiting" in finding


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}, "--with jit-cache"),
        ({"nvidia.com/gpu.compute.major": "10"}, "--with jit-cache"),
        ({"nvidia.com/gpu.compute.major": "3"}, "too old"),
        ({"nvidia.com/cuda.driver.major": "470"}, "driver 470 on b is too old"),
    ],
    ids=["hopper", "blackwell", "kepler", "driver"],
)
def test_gpus_and_drivers_are_held_against_the_wheel(
    healthy: FakeApi, gateway: Gateway, labels: dict[str, str], words: str
) -> None:
    put_node(healthy, "b", labels)
    (finding,) = wrong(gateway)
    assert words in finding


def test_the_table_of_native_code_is_that_of_the_installed_wheel() -> None:
    from tensorflow.python.platform import build_info

    info = build_info.build_info
    native = [f"sm_{major}{minor}" for major, minor in doctor.NATIVE_CAPABILITIES]
    major, minor = doctor.PTX_CAPABILITY
    assert info["cuda_compute_capabilities"] == [*native, f"compute_{major}{minor}"]
    assert info["cuda_version"].startswith(".".join(map(str, doctor.CUDA_VERSION)))


@pytest.mark.parametrize(("found", "fine"), [((7, 5), True), ((8, 6), True), ((6, 1), True), ((5, 2), False), ((9, 0), False), (None, True)])  # fmt: skip  # noqa: E501
def test_native_code_serves_later_minors_of_its_major(
    found: tuple[int, int] | None, fine: bool
) -> None:
    assert (doctor.gpu_problem(found) is None) is fine
