"""Objects that a test puts on the cluster, and their paths."""

from __future__ import annotations

from typing import Any

from tests.pipeline.cluster.fake_api import FakeApi

NAMESPACE = "/namespaces/mobilenet"


TFJOBS = f"/apis/kubeflow.org/v1{NAMESPACE}/tfjobs"


JOBS = f"/apis/batch/v1{NAMESPACE}/jobs"


PODS = f"/api/v1{NAMESPACE}/pods"


def condition(api: FakeApi, path: str, kind: str) -> None:
    """Give a job a condition."""
    doc = dict(api.objects[path])
    conditions = [
        condition
        for condition in doc.get("status", {}).get("conditions", [])
        if condition["type"] != kind
    ]
    doc["status"] = {"conditions": [*conditions, {"type": kind, "status": "True"}]}
    api.put(path, doc)


def put_pod(api: FakeApi, job: str, index: int, exit_code: int | None, **status: Any) -> None:
    """Put a pod of a job that runs, or that ended with `exit_code`."""
    doc = next(doc for path, doc in api.objects.items() if path.endswith(f"/{job}"))
    state = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
    phase = "Running" if exit_code is None else "Failed" if exit_code else "Succeeded"
    api.put(
        f"{PODS}/{job}-worker-{index}",
        {
            "metadata": {
                "name": f"{job}-worker-{index}",
                "labels": {
                    **doc["metadata"]["labels"],
                    "training.kubeflow.org/replica-index": str(index),
                },
            },
            "spec": {"containers": [{"name": "tensorflow"}]},
            "status": {
                "phase": phase,
                "containerStatuses": [{"name": "tensorflow", "state": state}],
                **status,
            },
        },
    )
