"""A backend that only this file knows is rendered, observed, suspended and examined."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from pipeline.cli.entry_point import parse
from pipeline.cluster import doctor, launch, render
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.backends import registry, tfjob
from pipeline.cluster.backends.backend import Backend, Manifest, Operator
from pipeline.cluster.status import observe
from tests.pipeline.cluster.conftest import CPU
from tests.pipeline.cluster.fake_api import FakeApi

PATH = "/apis/example.org/v1/namespaces/mobilenet/arrays"


class Array(Backend):
    """Indexed pods of an imaginary operator, which calls a suspension a pause."""

    name = "array"
    kind = "Array"
    resource = "apis/example.org/v1/arrays"
    operator = Operator(
        crd="arrays.example.org",
        title="the Array operator",
        purpose="Arrays: runs --backend array",
        required=True,
    )
    job_name_label = "example.org/array-name"
    replica_index_label = "example.org/index"
    ending_conditions = {"Done": "succeeded", "Broken": "failed"}  # noqa: RUF012

    def from_tfjob(self, tfjob_manifest: Manifest) -> Manifest:
        workers = tfjob.workers(tfjob_manifest)
        return {
            "apiVersion": "example.org/v1",
            "kind": self.kind,
            "metadata": copy.deepcopy(tfjob_manifest["metadata"]),
            "spec": {"size": workers["replicas"], "pod": copy.deepcopy(workers["template"])},
        }

    def pod_template(self, job: Manifest) -> Manifest:
        template: Manifest = job["spec"]["pod"]
        return template

    def suspend_patch(self, suspended: bool) -> Manifest:
        return {"spec": {"paused": suspended}}

    def set_suspended(self, job: Manifest) -> None:
        job["spec"]["paused"] = True

    def is_suspended(self, job: Manifest) -> bool:
        return bool(job["spec"].get("paused"))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the backend's registration line."""
    monkeypatch.setattr(registry, "BACKENDS", [*registry.BACKENDS, Array()])


def run_of(*flags: str) -> launch.Rendered:
    (run,) = launch.from_arguments(parse([*CPU, "--backend=array", *flags]))
    return run


def submitted(gateway: Gateway, *flags: str) -> Manifest:
    record = run_of(*flags).record
    job, *_ = render.attempt(record.stages["train"], record.spec, record.name, 1)
    return gateway.create(job)


def test_launch_renders_it(capsys: pytest.CaptureFixture[str]) -> None:
    launch.print_manifests([run_of("--queue")])
    docs = list(yaml.safe_load_all(capsys.readouterr().out))
    (array,) = [doc for doc in docs if doc["kind"] == "Array"]
    assert array["metadata"]["name"] == "run-train-1"
    assert array["spec"]["size"] == 2
    assert array["spec"]["paused"] is True
    assert array["spec"]["pod"]["metadata"]["labels"][render.ATTEMPT_LABEL] == "1"
    (budget,) = [
        doc
        for doc in docs
        if doc["kind"] == "PodDisruptionBudget" and doc["metadata"]["name"] == "run-train-1"
    ]
    assert budget["spec"]["selector"] == {"matchLabels": {"example.org/array-name": "run-train-1"}}
    assert not [doc for doc in docs if doc["kind"] == "TFJob"]


@pytest.mark.parametrize(("condition", "phase"), [("Done", "succeeded"), ("Broken", "failed")])
def test_its_phase_and_its_pods_are_observed(
    api: FakeApi, gateway: Gateway, condition: str, phase: str
) -> None:
    job = submitted(gateway)
    conditions = [{"type": condition, "status": "True", "message": "why"}]
    api.put(f"{PATH}/run-train-1", {**job, "status": {"conditions": conditions}})
    pod = {
        "metadata": {
            "name": "run-train-1-x",
            "labels": {
                **Array().pod_template(job)["metadata"]["labels"],
                render.STAGE_LABEL: "train",
                "example.org/index": "1",
            },
        },
        "spec": Array().pod_template(job)["spec"],
        "status": {"phase": "Running"},
    }
    api.put("/api/v1/namespaces/mobilenet/pods/run-train-1-x", pod)
    (attempt,), _ = observe.attempts(gateway, "run", "train", "Array")
    assert (attempt.phase, attempt.message) == (phase, "why")
    assert [pod.index for pod in attempt.pods] == [1]


def test_it_is_suspended_and_resumed(api: FakeApi, gateway: Gateway) -> None:
    submitted(gateway)
    for suspended, phase in ((True, "suspended"), (False, "pending")):
        gateway.suspend("Array", "run-train-1", suspended)
        assert api.objects[f"{PATH}/run-train-1"]["spec"]["paused"] is suspended
        (attempt,), _ = observe.attempts(gateway, "run", "train", "Array")
        assert attempt.phase == phase


def test_the_doctor_and_refusals_name_its_operator(api: FakeApi, gateway: Gateway) -> None:
    texts = [finding.text for finding in doctor.examine(gateway, "local") if finding.wrong]
    assert any("arrays.example.org is not installed" in text for text in texts), json.dumps(texts)
    api.missing_groups.add("example.org")
    with pytest.raises(Exception, match="install the Array operator"):
        gateway.need("Array", "run-train-1")
