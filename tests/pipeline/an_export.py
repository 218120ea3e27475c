"""An export directory as `mobilenet export` leaves it, with small files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.export import directory, per_image
from pipeline.export.predictions import Predictions
from preprocessing import storage

VARIANT = "mobilenet_v2_0.35_64"
CLASSES = ("zero", "one", "two")
EXAMPLES = 100


def make_export(
    folder: Path,
    variant: str = VARIANT,
    top1: float = 0.97,
    flatbuffer: bytes = b"flatbuffer",
    seed: int = 1,
    num_classes: int = len(CLASSES),
) -> Path:
    """An export whose checkpoint is right on `top1` of 100 images."""
    (folder / "saved_model").mkdir(parents=True)
    (folder / f"{variant}.tflite").write_bytes(flatbuffer)
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in ("background", *CLASSES)))
    config = {
        "config": {"seed": seed, "optimizer": {"momentum": 0.9}},
        "num_classes": num_classes,
        "records_digest": "r" * 64,
    }
    storage.write_json(str(folder / "config.json"), config)
    storage.write_json(
        str(folder / "history.json"),
        {
            "train/loss": [[10, 2.0, 1000.0], [20, 1.0, 1001.0]],
            "validation/top1": [[20, 0.5, 1001.5]],
        },
    )
    names = ("checkpoint", "saved_model", "tflite_float32", "tflite_int8")
    per_image.write(str(folder), dict.fromkeys(names, predictions(top1)))
    timing = {"median_ms": 0.25, "p95_ms": 0.5}
    metrics = {
        "variant": variant,
        "recipe": "demo",
        "macs": 4_749_248,
        "parameters": 396_128,
        "formats": {
            name: {
                "top1": top1,
                "top5": 1.0,
                "examples": EXAMPLES,
                "agreement_with_checkpoint": 1.0,
            }
            for name in names
        },
        "latency": {
            "host": {"cpu": "a CPU", "cores": 2, "system": "Linux"},
            "threads": 1,
            "tflite_float32": timing,
            "tflite_int8": timing,
        },
        "input_contract": {"color": "RGB", "range": [-1.0, 1.0]},
        "rejected": 1,
        "lineage": {
            "checkpoint_step": 299,
            "records_digest": "r" * 64,
            "config_digest": storage.digest_of(config),
            "git_commit": "abc",
        },
        "files": directory.file_digests(str(folder)),
    }
    storage.write_json(str(folder / directory.METRICS), metrics)
    return folder


def predictions(top1: float) -> Predictions:
    """`EXAMPLES` images of three classes; the first ones are taken for the class after theirs."""
    labels = 1 + np.arange(EXAMPLES) % len(CLASSES)
    said = labels.copy()
    num_wrong = round((1 - top1) * EXAMPLES)
    said[:num_wrong] = 1 + labels[:num_wrong] % len(CLASSES)
    scores = np.full((EXAMPLES, len(CLASSES) + 1), 0.1, np.float32)
    scores[np.arange(EXAMPLES), said] = 0.7
    return Predictions(scores, labels)


def metrics_of(export: Path) -> dict[str, Any]:
    """Its `metrics.json`."""
    return directory.read_metrics(str(export))
