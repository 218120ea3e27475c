"""What MLflow is told about an export: a function of its files, so saying it twice is harmless."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from preprocessing import storage

# MLflow's limits per request.
MAX_METRICS = 1000
MAX_PARAMS = 100


def lineage(metrics: dict[str, Any]) -> dict[str, str]:
    """Where the weights come from, without the step: the same for all exports of a training."""
    return {
        "recipe": metrics["recipe"],
        **{
            key: str(value) for key, value in metrics["lineage"].items() if key != "checkpoint_step"
        },
    }


def tags(metrics: dict[str, Any]) -> dict[str, str]:
    """Lineage and rank of one version."""
    return {
        **lineage(metrics),
        "checkpoint_step": str(metrics["lineage"]["checkpoint_step"]),
        "top1": repr(metrics["formats"]["checkpoint"]["top1"]),
    }


def training_digest(run: dict[str, Any], metrics: dict[str, Any], export_digest: str) -> str:
    """Identity of the training: its config, records and code.

    An imported checkpoint was trained elsewhere, nobody knows how; every export is its own.
    """
    known = metrics["lineage"]
    imported = not run.get("records_digest", known["records_digest"])
    return storage.digest_of(
        [known["config_digest"], known["git_commit"], export_digest if imported else ""]
    )


def batches(
    run: dict[str, Any], metrics: dict[str, Any], curves: dict[str, list[list[float]]]
) -> Iterator[dict[str, list[Any]]]:
    """Arguments of `MlflowClient.log_batch`: the recipe, the curves, the figures of the export.

    Timestamps are those of the training, so that MLflow recognises a repeated point.
    """
    from mlflow.entities import Metric, Param

    params = [Param(key, value) for key, value in flat(run["config"]).items()]
    points = [
        Metric(name, value, int(seconds * 1000), int(step))
        for name, curve in curves.items()
        for step, value, seconds in curve
    ]
    last_ms = max((point.timestamp for point in points), default=0)
    step = metrics["lineage"]["checkpoint_step"]
    points += [
        Metric(name, float(value), last_ms, step) for name, value in measurements(metrics).items()
    ]
    for some in _chunks(params, MAX_PARAMS):
        yield {"params": some}
    for some in _chunks(points, MAX_METRICS):
        yield {"metrics": some}


def measurements(metrics: dict[str, Any]) -> dict[str, float]:
    """Every number that was measured on the export: `tflite_int8.top1` and so on."""
    found: dict[str, float] = {"macs": metrics["macs"], "parameters": metrics["parameters"]}
    found |= _numbers(metrics["formats"])
    found |= _numbers(
        {
            f"{name}.latency": figures
            for name, figures in metrics["latency"].items()
            if name != "host" and isinstance(figures, dict)
        }
    )
    return found


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}}` as `{"a.b": "1"}`."""
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return leaves


def _numbers(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
