"""Export all 38 variants and print their table of sizes and latencies.

    python -m benchmarks.variants [--output DIR] [--only mobilenet_v2_1.0]

Every variant, with random filters and 1001 outputs, goes through the real `export`, which converts
it to every format and compares each with the checkpoint image by image. Then the latencies of all
variants are measured in rounds, one variant after the other, and their ranks are compared with
those of the published Pixel 1 column. A run that was interrupted keeps what is finished and
continues when it is started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks.random_networks import write_digits, write_run
from pipeline.export import directory, latency
from pipeline.export.exporter import export
from pipeline.export.job import Export
from pipeline.export.metrics import ExportMetrics
from pipeline.publish.pages import plots
from pipeline.publish.published_index import unpublished_entry
from preprocessing.records.schema import Manifest
from training.models import mobilenet_v2
from training.models.variants import published_variants
from training.workdir.workdir import Workdir

PUBLISHED_V2 = mobilenet_v2.FAMILY.published_rows
NUM_CLASSES = 1000
TRAIN, VALIDATION = 64, 50  # images; all of the training images calibrate int8
ROUNDS = 5
FLOAT, INT8 = "tflite_float32", "tflite_int8"


def main() -> None:
    """Export the variants, measure them and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()) / "variants")
    arguments.add_argument("--only", default="", help="only variants whose names start with this")
    arguments.add_argument("--int8-tolerance", type=float, default=0.02)
    arguments.add_argument("--export-only", action="store_true", help="leave the timing for later")
    arguments.add_argument("--plot", type=Path, help="draw V1 against V2 into this SVG")
    options = arguments.parse_args()
    names = [name for name in published_variants() if name.startswith(options.only)]
    measured = {name: exported(name, options.output, options.int8_tolerance) for name in names}
    if options.export_only:
        return
    timed = latencies(options.output, measured)
    print(table(measured, timed))
    if options.plot:
        entries = [
            dataclasses.replace(
                unpublished_entry(str(options.output / name), metrics), latency_ms=timed[name]
            )
            for name, metrics in measured.items()
        ]
        options.plot.write_bytes(plots.latency(entries))
    v2 = [name for name in names if name in PUBLISHED_V2]
    if len(v2) > 2:
        published = [PUBLISHED_V2[name].pixel1_ms or 0.0 for name in v2]  # every row has one
        ranks = spearman([timed[name][FLOAT] for name in v2], published)
        print(
            f"\nOver {len(v2)} variants, Spearman's correlation with the published Pixel 1 column "
            f"is {ranks:.4f}."
        )
    ratio = np.median([timed[name][INT8] / timed[name][FLOAT] for name in names])
    print(f"Over {len(names)} variants, the median of int8 / float32 latency is {ratio:.3f}.")


def exported(name: str, output: Path, int8_tolerance: float) -> ExportMetrics:
    """Export a variant and return its metrics; keep only the TF-Lite and JSON files."""
    folder = output / name
    if not directory.is_export(str(folder)):
        print(f"variants: {name}", file=sys.stderr, flush=True)
        records, workdir = output / "records", output / f"{name}.run"
        if not (records / "dataset.json").exists():
            write_digits(records, num_classes=NUM_CLASSES, train=TRAIN, validation=VALIDATION)
        manifest = Manifest.read(str(records))
        shutil.rmtree(workdir, ignore_errors=True)
        run = write_run(workdir, name, records, manifest)
        job = Export(
            workdir=Workdir(str(workdir)),
            records=str(records),
            run=run,
            manifest=manifest,
            int8_tolerance=int8_tolerance,
        )
        export(job, str(folder))
        keras.utils.clear_session()
        shutil.rmtree(workdir)
        for path in folder.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix not in (".tflite", ".json"):
                path.unlink()
    return directory.read_metrics(str(folder))


def latencies(output: Path, measured: dict[str, ExportMetrics]) -> dict[str, dict[str, float]]:
    """Return the best round's median milliseconds by variant and format, with one thread."""
    best: dict[str, dict[str, float]] = {name: {} for name in measured}
    for _ in range(ROUNDS):
        for name, metrics in measured.items():
            for key in (FLOAT, INT8):
                flatbuffer = (output / name / metrics.files_by_format[key]).read_bytes()
                median = latency.measure(flatbuffer).median_ms
                best[name][key] = min(median, best[name].get(key, median))
    return best


def spearman(a: list[float], b: list[float]) -> float:
    """Return Spearman's correlation, that of the ranks."""
    first, second = (np.argsort(np.argsort(figures)).astype(float) for figures in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def table(measured: dict[str, ExportMetrics], timed: dict[str, dict[str, float]]) -> str:
    """Return the table of sizes and latencies as Markdown."""
    keys = [key for key in next(iter(measured.values())).sizes if key.startswith("tflite_")][:4]
    lines = [
        "| variant | MACs (M) | parameters (M) | "
        + " | ".join(f"{key.removeprefix('tflite_')} MB" for key in keys)
        + " | arena MB float / int8 | float ms | int8 ms | int8 / float | top-1 float / int8 "
        "| agreement ONNX / fp16 / dynamic / int8 | Pixel 1 ms |",
        "|---" * (10 + len(keys)) + "|",
    ]
    for name, metrics in measured.items():
        formats, arena = metrics.formats, metrics.arena_bytes
        agreement = [
            f"{formats[key].agreement_with_checkpoint:.3f}"
            for key in ("onnx", "tflite_float16", "tflite_dynamic", INT8)
        ]
        pixel = PUBLISHED_V2[name].pixel1_ms if name in PUBLISHED_V2 else "-"
        lines.append(
            f"| {name} | {metrics.macs // 10**6} | {metrics.parameters / 1e6:.2f} | "
            + " | ".join(f"{metrics.sizes[key] / 1e6:.2f}" for key in keys)
            + f" | {arena[FLOAT] / 1e6:.2f} / {arena[INT8] / 1e6:.2f}"
            f" | {timed[name][FLOAT]:.2f} | {timed[name][INT8]:.2f}"
            f" | {timed[name][INT8] / timed[name][FLOAT]:.2f}"
            f" | {metrics.checkpoint.top1:.3f} / {formats[INT8].top1:.3f}"
            f" | {' / '.join(agreement)} | {pixel} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
