"""Our TF-Lite files beside those converted from `keras.applications`, timed in turn in one run.

    python -m benchmarks.latency [--variant mobilenet_v2_1.0_224]

Same width and resolution, same weights (copied over), same converter. Prints the ratio of our
float32 latency to theirs (at most 1.02 wanted: Keras pads in operators of their own) and of our
int8 to our float32.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from pipeline import latency, litert, tflite
from training.architecture import architecture
from training.config import ModelConfig
from training.keras_applications import application, copy_weights
from training.mobilenet import mobilenet
from training.variants import Variant

OUTPUTS = 1001
ROUNDS = 15
CALIBRATION_IMAGES = 4  # of noise: this measures speed


def main() -> None:
    """Convert both, time in turn, print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--variant", default="mobilenet_v2_1.0_224")
    variant = Variant.parse(arguments.parse_args().variant)
    layout, size = architecture(variant, OUTPUTS), variant.resolution
    ours = mobilenet(layout, ModelConfig(weight_decay=0.0), resolution=size)
    theirs = application(variant, OUTPUTS)
    copy_weights(ours, theirs, layout, to_ours=False)
    noise = np.random.default_rng(0).uniform(-1, 1, (CALIBRATION_IMAGES, size, size, 3))
    files = {
        "ours float32": tflite.to_float32(ours),
        "keras.applications float32": tflite.to_float32(theirs),
        "ours int8": tflite.convert(ours, noise.astype(np.float32))["tflite_int8"],
    }
    rounds: dict[str, list[float]] = {name: [] for name in files}
    for number in range(ROUNDS):
        for name in sorted(files, reverse=bool(number % 2)):
            rounds[name].append(latency.measure(files[name])["median_ms"])
    print(f"{variant.name}, {ROUNDS} rounds in turn, 1 thread, {latency.host()['cpu']}")
    for name, times in rounds.items():
        operators = sum(litert.op_counts(files[name]).values())
        print(
            f"{name:28} {np.median(times):8.3f} ms (best {min(times):.3f}), {operators} operators"
        )
    float32 = rounds["ours float32"]
    for name, over in (
        ("ours / keras.applications", _ratio(float32, rounds["keras.applications float32"])),
        ("int8 / float32", _ratio(rounds["ours int8"], float32)),
    ):
        print(f"{name:28} {over:.3f}")


def _ratio(a: list[float], b: list[float]) -> float:
    """Median over rounds: whatever slows the machine in a round slows both."""
    return float(np.median(np.asarray(a) / np.asarray(b)))


if __name__ == "__main__":
    main()
