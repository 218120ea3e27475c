"""The pods of a FlinkDeployment, as the Flink Kubernetes Operator makes them."""

from __future__ import annotations

import copy
from typing import Any

from tests.k8s.conftest import Manifest, built

ROLES = ("jobManager", "taskManager")
MAIN = "flink-main-container"  # Flink looks for this name


def deployment(overlay: str) -> Manifest:
    """Return the FlinkDeployment of an overlay's platform with the component flink-cluster."""
    docs = built(overlay, "platform", "flink-cluster")
    return next(doc for doc in docs if doc["kind"] == "FlinkDeployment")


def prepare_job() -> Manifest:
    """Return the Job `prepare` that submits to the cluster."""
    docs = built("gke", "jobs", "flink")
    return next(doc for doc in docs if doc["metadata"]["name"] == "prepare")


def pod_template(deployment: Manifest, role: str) -> Manifest:
    """Return the pod template of one of `ROLES`: its own over the one that both share."""
    spec = deployment["spec"]
    merged: Manifest = _merged(spec["podTemplate"], spec[role].get("podTemplate", {}))
    (main,) = (each for each in merged["spec"]["containers"] if each["name"] == MAIN)
    main["image"] = spec["image"]
    return merged


def _merged(common: Any, own: Any) -> Any:
    """Merge two values; lists are merged by place, which is the operator's default."""
    if isinstance(common, dict) and isinstance(own, dict):
        both = {name: _merged(common[name], own[name]) for name in common.keys() & own.keys()}
        return copy.deepcopy({**common, **own, **both})
    if isinstance(common, list) and isinstance(own, list):
        shared = [_merged(*pair) for pair in zip(common, own, strict=False)]
        return shared + copy.deepcopy(max(common, own, key=len)[len(shared) :])
    return copy.deepcopy(own)
