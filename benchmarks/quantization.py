"""The gain of int8 from rounding in training, on the digits of a finished `mobilenet demo`.

    python -m benchmarks.quantization [--demo demo] [--seeds 2] [--output DIR]

Three networks start from the same weights: one is converted as it is, one is fine-tuned with the
recipe `demo_quantized`, and one is fine-tuned in the same way without the rounding, which tells the
gain of rounding from that of longer training. The real `export` writes each of them. The benchmark
prints the top-1 accuracy of float32 and int8 on the held-out digits, the share of images on which
they agree, and how far int8 moves the probability of float32's best class. A repeated run keeps
what is finished.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline.demo.demo import VARIANT
from pipeline.export import directory, per_image

WAYS = {"with rounding": "true", "without": "false"}


def main() -> None:
    """Train and export the networks, and print one line for each."""
    arguments = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    arguments.add_argument(
        "--demo", type=Path, default=Path("demo"), help="a finished demo's folder"
    )
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument(
        "--output", type=Path, default=Path(tempfile.gettempdir()) / "quantization"
    )
    options = arguments.parse_args()
    start = options.demo / "exports" / VARIANT
    if not directory.is_export(str(start)):
        raise SystemExit(
            f"{start} is not an export; run `mobilenet demo --output {options.demo}` first"
        )
    print("weights                     float32    int8   agree  moved by")
    show("of the demo, unchanged", start)
    for seed in range(1, options.seeds + 1):
        for way, rounding in WAYS.items():
            folder = options.output / f"{way.replace(' ', '-')}-{seed}"
            fine_tune(options.demo / "records", start, folder, seed, rounding)
            show(f"tuned {way}, seed {seed}", folder / "export")


def fine_tune(records: Path, start: Path, folder: Path, seed: int, rounding: str) -> None:
    """Run `mobilenet train` and `export`, which both skip finished work."""
    run = f"--workdir={folder / 'run'}"
    commands = [
        [
            *(
                "train",
                f"--variant={VARIANT}",
                "--recipe=demo_quantized",
                f"--records={records}",
                run,
            ),
            *(f"--initial-checkpoint={start}", f"--set=seed={seed}"),
            f"--set=model.quantized={rounding}",
        ],
        [
            *("export", run, f"--records={records}", f"--output={folder / 'export'}"),
            "--int8-tolerance=1.0",  # no loss is refused, because the loss is measured here
        ],
    ]
    for command in commands:
        print(f"$ mobilenet {' '.join(command)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "pipeline", *command], check=True, stdout=sys.stderr)


def show(name: str, export: Path) -> None:
    """Print the accuracies of one export on one line."""
    formats = json.loads((export / directory.METRICS).read_text())["formats"]
    checkpoint, int8 = (per_image.read(str(export), key) for key in ("checkpoint", "tflite_int8"))
    best = int8.classes == checkpoint.classes[:, :1]
    moved = np.abs((int8.scores * best).sum(axis=1) - checkpoint.scores[:, 0]).mean()
    print(
        f"{name:26} {formats['checkpoint']['top1']:8.4f} {formats['tflite_int8']['top1']:7.4f}"
        f" {formats['tflite_int8']['agreement_with_checkpoint']:7.4f}  {moved:8.5f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
