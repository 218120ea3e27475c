"""Our TF-Lite files compared with those of `keras.applications`, timed in turn in one run.

    python -m benchmarks.latency [--variant mobilenet_v2_1.0_224]

Both have the same width, resolution, weights (which are copied) and converter. The benchmark
prints the ratio of our float32 latency to theirs, which should be at most 1.02, and that of our
int8 latency to our float32 latency. Keras pads in separate operators. In V2 it ends in
FULLY_CONNECTED, where we keep slim's convolution of one pixel and a RESHAPE. The printed
operators show these differences.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from pipeline.export import latency
from pipeline.export.conversion import litert, tflite
from pipeline.export.conversion.litert import LiteRTModel
from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.weights.keras_applications import application, copy_weights

OUTPUTS = 1001
ROUNDS = 20  # each creates new interpreters, because their place in memory changes some percent
TURNS = 4  # per round; every other turn runs the files in reverse order
CALIBRATION_IMAGES = 4  # of noise, because only speed is measured


def main() -> None:
    """Convert both, time them in turn and print the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--variant", default="mobilenet_v2_1.0_224")
    variant = Variant.parse(arguments.parse_args().variant)
    layout, size = architecture(variant, OUTPUTS), variant.resolution
    ours = mobilenet(layout, ModelConfig(weight_decay=0.0), resolution=size)
    theirs = application(variant, OUTPUTS)
    copy_weights(ours, theirs, variant, layout, to_ours=False)
    noise = np.random.default_rng(0).uniform(-1, 1, (CALIBRATION_IMAGES, size, size, 3))
    noise = noise.astype(np.float32)
    files = {
        "ours float32": tflite.to_float32(ours),
        "keras.applications float32": tflite.to_float32(theirs),
        "ours int8": tflite.convert(ours, noise)["tflite_int8"],
    }
    rounds = np.asarray([_round(files, noise[0]) for _ in range(ROUNDS)])
    milliseconds = dict(zip(files, rounds.T, strict=True))
    print(f"{variant.name}, {ROUNDS} rounds in turn, 1 thread, {latency.host().cpu}")
    for name, times in milliseconds.items():
        operators = ", ".join(
            f"{n} {op}" for op, n in sorted(litert.op_counts(files[name]).items())
        )
        print(f"{name:28} {np.median(times):8.3f} ms (best {min(times):.3f}): {operators}")
    for name, a, b in (
        ("ours / keras.applications", "ours float32", "keras.applications float32"),
        ("int8 / float32", "ours int8", "ours float32"),
    ):
        # The ratios are taken by round: whatever slows the machine in a round slows both files.
        ratios = milliseconds[a] / milliseconds[b]
        low, median, high = np.percentile(ratios, [25, 50, 75])
        print(f"{name:28} {median:.3f} (middle half of the rounds {low:.3f} to {high:.3f})")


def _round(files: dict[str, bytes], image: np.ndarray) -> list[float]:
    """Return the median milliseconds of each file, over runs that alternate with the others'."""
    models = [LiteRTModel(file) for file in files.values()]
    milliseconds: list[list[np.ndarray]] = [[] for _ in models]
    for model in models:
        model.set_image(image)
    for turn in range(TURNS):
        for index in sorted(range(len(models)), reverse=bool(turn % 2)):
            runs = latency.timed_ms(models[index].invoke, warm_up_runs=2, max_runs=latency.MIN_RUNS)
            milliseconds[index].append(runs)
    return [float(np.median(np.concatenate(parts))) for parts in milliseconds]


if __name__ == "__main__":
    main()
