"""Every answer of a cluster, and no answer, is a result or one line; the SDK's traps stay shut."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import launch
from pipeline.cluster.api import refusals, requests
from pipeline.cluster.api.gateway import Gateway
from preprocessing.errors import PermanentError, RetryError, UsageError
from tests.pipeline.cluster.conftest import rendered
from tests.pipeline.cluster.fake_api import FakeApi

JOBS = "/apis/kubeflow.org/v1/namespaces/mobilenet/tfjobs"


@pytest.fixture
def tfjob(cpu_run: launch.Rendered) -> dict[str, Any]:
    """Return the run's TFJob."""
    return launch.first_objects(cpu_run.record)[0]


def status(reason: str, message: str) -> str:
    """Return a Status object, as the API server sends it."""
    return json.dumps({"kind": "Status", "reason": reason, "message": message})


def test_a_tfjob_passes_through_the_sdk_unchanged(
    gateway: Gateway, api: FakeApi, tfjob: dict[str, Any]
) -> None:
    """The SDK's models know fewer fields than the API, and it ignores separate labels."""
    queued = launch.first_objects(rendered("--queue").record)[0]
    for job in (tfjob, queued):
        job["metadata"]["name"] += str(len(api.objects))
        gateway.create(job)
        stored = api.objects[f"{JOBS}/{job['metadata']['name']}"]
        assert stored["spec"] == job["spec"]
        assert stored["metadata"]["labels"] == job["metadata"]["labels"]
        assert gateway.need("TFJob", job["metadata"]["name"])["spec"] == job["spec"]
    assert {path for method, path, _ in api.requests if method == "POST"} == {JOBS}


def test_the_dry_run_is_strict_and_keeps_nothing(
    gateway: Gateway, api: FakeApi, tfjob: dict[str, Any]
) -> None:
    """The SDK's own create sends neither flag."""
    gateway.create(tfjob, dry_run=True)
    ((method, path, query),) = api.requests
    assert (method, path) == ("POST", JOBS)
    assert query == {"dryRun": "All", "fieldValidation": "Strict"}
    assert not api.objects


def test_suspending_changes_that_and_nothing_else(
    gateway: Gateway, api: FakeApi, tfjob: dict[str, Any]
) -> None:
    gateway.create(tfjob)
    name = tfjob["metadata"]["name"]
    for suspended in (True, False):
        gateway.suspend("TFJob", name, suspended)
        tfjob["spec"]["runPolicy"]["suspend"] = suspended
        assert api.objects[f"{JOBS}/{name}"]["spec"] == tfjob["spec"]


def test_a_missing_object_is_none_and_deleting_it_is_nothing(gateway: Gateway) -> None:
    for kind in ("TFJob", "Job", "ConfigMap"):
        assert gateway.get(kind, "nobody") is None
        gateway.delete(kind, "nobody")


@pytest.mark.parametrize("kind", ["TFJob", "ConfigMap"])
@pytest.mark.parametrize(
    ("answer", "body", "error", "words"),
    [
        (401, status("Unauthorized", "Unauthorized"), refusals.LoggedOutError, "log in again"),
        (403, status("Forbidden", "User x cannot get"), UsageError, "forbidden (User x"),
        (
            403,
            status("Forbidden", "pods x is forbidden: exceeded quota: gpus, requested: 8, used: 8"),
            PermanentError,
            "no quota: gpus, requested: 8",
        ),
        (
            404,
            status("NotFound", 'namespaces "mobilenet" not found'),
            UsageError,
            "install the platform",
        ),
        (409, status("AlreadyExists", "x already exists"), refusals.NameTakenError, "is taken"),
        (409, status("Conflict", "modified"), refusals.ConflictError, "at the same time"),
        (422, status("Invalid", "spec.x: Required"), PermanentError, "spec.x: Required"),
        (429, status("TooManyRequests", "slow down"), RetryError, "429"),
        (500, status("InternalError", "etcd is away"), RetryError, "etcd is away"),
        (
            500,
            status("InternalError", 'failed calling webhook "v.kubeflow.org": refused'),
            RetryError,
            "webhook of an operator does not answer",
        ),
        (503, "upstream connect error\n", RetryError, "upstream connect error"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line(
    gateway: Gateway, api: FakeApi, kind: str, answer: int, body: str, error: type, words: str
) -> None:
    api.failures.put((answer, body))
    with pytest.raises(error) as raised:
        gateway.need(kind, "x")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert f"get {kind} x" in str(raised.value)


def test_a_cluster_without_the_operator_is_told_from_a_missing_job(
    gateway: Gateway, api: FakeApi, tfjob: dict[str, Any]
) -> None:
    api.missing_groups = {"kubeflow.org"}
    calls = [
        lambda: gateway.create(tfjob, dry_run=True),
        lambda: gateway.create(tfjob),
        lambda: gateway.get("TFJob", "x"),
        lambda: gateway.suspend("TFJob", "x", True),
        lambda: gateway.delete("TFJob", "x"),
        lambda: gateway.find("TFJob"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="install the Training Operator"):
            call()


def test_no_cluster_is_said_for_every_call(tmp_path: Path, api: FakeApi, tfjob: Any) -> None:
    """In get, list, update and delete the SDK loses the message of answers that are not HTTP."""
    gateway = Gateway("mobilenet")
    for call in (
        lambda: gateway.create(tfjob),
        lambda: gateway.get("TFJob", "x"),
        lambda: gateway.suspend("TFJob", "x", True),
        lambda: gateway.delete("TFJob", "x"),
        lambda: gateway.get("ConfigMap", "x"),
        lambda: next(gateway.watch("Pod", "", threading.Event())),
    ):
        api.failures.put((0, ""))
        with pytest.raises(RetryError) as raised:
            call()
        assert f"the cluster at {api.url} does not answer" in str(raised.value)


def test_no_call_waits_without_end(
    gateway: Gateway, api: FakeApi, tfjob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK sends create, update and delete without a time limit."""
    monkeypatch.setattr(requests, "READ_SECONDS", 0.2)
    api.silent = True
    for call in (
        lambda: gateway.create(tfjob),
        lambda: gateway.suspend("TFJob", "x", True),
        lambda: gateway.delete("TFJob", "x"),
        lambda: gateway.get("TFJob", "x"),
        lambda: gateway.find("Pod"),
    ):
        with pytest.raises(RetryError, match="does not answer"):
            call()


def test_no_kubeconfig_is_a_mistake_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"no cluster: .*set KUBECONFIG"):
        Gateway("mobilenet")


def test_a_watch_shows_what_is_there_and_what_changes(gateway: Gateway, api: FakeApi) -> None:
    path = "/api/v1/namespaces/mobilenet/configmaps"
    for name, label in (("mine", "a"), ("other", "b")):
        api.put(f"{path}/{name}", {"metadata": {"name": name, "labels": {"run": label}}})
    changes = gateway.watch("ConfigMap", "run=a", threading.Event())
    assert next(changes)["metadata"]["name"] == "mine"
    api.put(
        f"{path}/mine", {"metadata": {"name": "mine", "labels": {"run": "a"}}, "data": {"x": "1"}}
    )
    assert next(changes)["data"] == {"x": "1"}


def test_new_credentials_are_read_after_the_old_ones_expired(
    gateway: Gateway, api: FakeApi, tmp_path: Path
) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace('"t"', '"new"'))
    gateway.reconnect()
    assert gateway.version() == "v1.36.3"
