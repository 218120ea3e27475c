"""An export directory as `mobilenet export` leaves it, with small files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.export import directory, per_image
from pipeline.export.metrics import (
    ExportMetrics,
    FormatLatency,
    FormatMetrics,
    Host,
    InputContract,
    Latencies,
    Lineage,
)
from pipeline.export.predictions import Predictions
from preprocessing import storage
from training.config import override
from training.config.recipes import demo
from training.models.variants import Variant
from training.workdir.run_record import Run

VARIANT = "mobilenet_v2_0.35_64"
CLASSES = ("zero", "one", "two")
EXAMPLES = 100
FORMATS = ("checkpoint", "saved_model", "tflite_float32", "tflite_int8")


def make_export(
    folder: Path,
    variant: str = VARIANT,
    top1: float = 0.97,
    flatbuffer: bytes = b"flatbuffer",
    seed: int = 1,
    num_classes: int = len(CLASSES),
) -> Path:
    """Make an export whose checkpoint is right on `top1` of 100 images."""
    (folder / "saved_model").mkdir(parents=True)
    (folder / f"{variant}.tflite").write_bytes(flatbuffer)
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in ("background", *CLASSES)))
    run = Run(
        config=override(demo(Variant.parse(variant)), f"seed={seed}"),
        num_replicas=2,
        num_classes=num_classes,
        num_examples=1437,
        records_digest="r" * 64,
        initial_checkpoint=None,
        git_commit="abc",
        versions={},
    )
    storage.write_json(str(folder / "config.json"), run.to_json())
    storage.write_json(
        str(folder / "history.json"),
        {
            "train/loss": [[10, 2.0, 1000.0], [20, 1.0, 1001.0]],
            "validation/top1": [[20, 0.5, 1001.5]],
        },
    )
    per_image.write(str(folder), dict.fromkeys(FORMATS, predictions(top1)), num_classes + 1)
    figures = FormatMetrics(top1=top1, top5=1.0, examples=EXAMPLES, agreement_with_checkpoint=1.0)
    timing = FormatLatency(median_ms=0.25, p95_ms=0.5)
    metrics = ExportMetrics(
        variant=Variant.parse(variant),
        recipe="demo",
        macs=4_749_248,
        parameters=396_128,
        formats=dict.fromkeys(FORMATS, figures),
        latency=Latencies(
            host=Host(cpu="a CPU", cores=2, system="Linux"),
            threads=1,
            formats={"tflite_float32": timing, "tflite_int8": timing},
        ),
        input_contract=contract(),
        rejected=1,
        lineage=Lineage(
            checkpoint_step=299,
            records_digest="r" * 64,
            config_digest=run.config_digest,
            git_commit="abc",
        ),
        files=directory.file_digests(str(folder)),
    )
    write_metrics(folder, metrics)
    return folder


def contract() -> InputContract:
    """Return an input contract for 64 x 64 pixels."""
    return InputContract(
        description="An RGB image.",
        shape=(1, 64, 64, 3),
        color="RGB",
        range=(-1.0, 1.0),
        mean=127.5,
        std=127.5,
        crop="the centre",
        crop_fraction=0.875,
        resize="bilinear",
        jpeg_decoder="fast DCT",
        outputs=4,
        label_offset=1,
        labels="output i is class i",
    )


def predictions(top1: float) -> Predictions:
    """Return predictions on `EXAMPLES` images; the first ones name the class after the right."""
    labels = 1 + np.arange(EXAMPLES) % len(CLASSES)
    answers = labels.copy()
    num_wrong = round((1 - top1) * EXAMPLES)
    answers[:num_wrong] = 1 + labels[:num_wrong] % len(CLASSES)
    scores = np.full((EXAMPLES, len(CLASSES) + 1), 0.1, np.float32)
    scores[np.arange(EXAMPLES), answers] = 0.7
    return Predictions.of(scores, labels)


def metrics_of(export: Path) -> ExportMetrics:
    """Read `metrics.json` of an export."""
    return directory.read_metrics(str(export))


def write_metrics(export: Path, metrics: ExportMetrics) -> None:
    """Replace `metrics.json` of an export."""
    storage.write_json(str(export / directory.METRICS), metrics.to_json())
