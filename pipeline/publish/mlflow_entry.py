"""An export as MLflow records it: a function of its files, so that logging it twice is harmless."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pipeline.export.history import History
from pipeline.export.metrics import ExportMetrics
from preprocessing import storage
from preprocessing.storage import contracts
from training.workdir.run_record import Run

# MLflow's limits per request.
MAX_METRICS = 1000
MAX_PARAMS = 100


def lineage(metrics: ExportMetrics) -> dict[str, str]:
    """Return the origin of the weights without the step: the same for all exports of a run."""
    return {
        "recipe": metrics.recipe,
        **{
            name: str(value)
            for name, value in contracts.to_json(metrics.lineage).items()
            if name not in ("checkpoint_step", "weights_digest")
        },
    }


def tags(metrics: ExportMetrics) -> dict[str, str]:
    """Return lineage, figures and data of one version."""
    return {
        **lineage(metrics),
        "checkpoint_step": str(metrics.lineage.checkpoint_step),
        "weights_digest": metrics.lineage.weights_digest,
        "top1": repr(metrics.checkpoint.top1),
        "validation_examples": str(metrics.checkpoint.examples),
        "classes": str(metrics.input_contract.outputs - 1 if metrics.input_contract else 0),
    }


def training_digest(run: Run, metrics: ExportMetrics) -> str:
    """Return the identity of the training: its config, records and code.

    How an imported checkpoint was trained is unknown, so each of its exports is a training of
    its own.
    """
    lineage = metrics.lineage
    is_imported = run.records_digest is None
    return storage.digest_of(
        [lineage.config_digest, lineage.git_commit, metrics.digest if is_imported else ""]
    )


def batches(run: Run, metrics: ExportMetrics, curves: History) -> Iterator[dict[str, list[Any]]]:
    """Yield arguments of `MlflowClient.log_batch`: the recipe, the curves and the figures.

    Timestamps are those of the training, so that MLflow recognises a repeated point.
    """
    from mlflow.entities import Metric, Param

    params = [Param(key, value) for key, value in flat(run.config.to_json()).items()]
    points = [
        Metric(name, value, int(seconds * 1000), int(step))
        for name, curve in curves.items()
        for step, value, seconds in curve
    ]
    last_ms = max((point.timestamp for point in points), default=0)
    step = metrics.lineage.checkpoint_step
    points += [
        Metric(name, float(value), last_ms, step) for name, value in measurements(metrics).items()
    ]
    for params_chunk in _chunks(params, MAX_PARAMS):
        yield {"params": params_chunk}
    for points_chunk in _chunks(points, MAX_METRICS):
        yield {"metrics": points_chunk}


def measurements(metrics: ExportMetrics) -> dict[str, float]:
    """Return every number that was measured on the export: `tflite_int8.top1` and so on."""
    formats = {name: contracts.to_json(figures) for name, figures in metrics.formats.items()}
    latencies = {
        f"{name}.latency": contracts.to_json(timing)
        for name, timing in metrics.latency.formats.items()
    }
    return {
        "macs": metrics.macs,
        "parameters": metrics.parameters,
        **_numbers(formats),
        **_numbers(latencies),
    }


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return `{"a": {"b": 1}}` as `{"a.b": "1"}`."""
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return leaves


def _numbers(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = value
    return numbers


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
