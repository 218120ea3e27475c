"""Inputs of the golden figures, computed from formulas.

    python -m tests.data.golden_inputs FOLDER

writes, for each network and training run of `golden.npz`, its weights by slim name, its images and
its labels as `FOLDER/KEY.npz`. Any implementation can be fed with them.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
# The two kinds of keys in golden.npz.
LOGITS = re.compile(r"logits_(v\d)_([\d.]+)_(\d+)_seed(\d+)_pub")
TRAINING = re.compile(
    r"train_(v\d)_([\d.]+)_(\d+)_seed(\d+)_pub_steps(\d+)_batch(\d+)x(\d+)_classes(\d+)"
    r"_lr([\d.]+)_smooth0\.1"
)
IMAGES_OF_LOGITS, CLASSES_OF_LOGITS = 2, 1001


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the `float32` value of the variable with the slim name `name`."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(("pub" + name).encode())))
    kind = name.split("/")[-1]
    if kind == "depthwise_weights":
        value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:2]))
    elif kind == "weights":
        value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif kind in ("gamma", "moving_variance"):
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = random.standard_normal(shape) * 0.1
    return value.astype(np.float32)


def images(seed: int, count: int, resolution: int) -> np.ndarray:
    """Return `float32 [count, resolution, resolution, 3]` images in [-1, 1]."""
    random = np.random.Generator(np.random.PCG64(seed))
    return random.uniform(-1, 1, (count, resolution, resolution, 3)).astype(np.float32)


def labels(seed: int, count: int, num_outputs: int) -> np.ndarray:
    """Return `int64 [count]` labels in [1, num_outputs)."""
    random = np.random.Generator(np.random.PCG64(seed + 1))
    return random.integers(1, num_outputs, (count,))


def inputs_of(key: str) -> dict[str, np.ndarray]:
    """Return the inputs of a key of `golden.npz`: weights by slim name, `images` and `labels`."""
    if match := LOGITS.fullmatch(key):
        seed, count, num_outputs = int(match[4]), IMAGES_OF_LOGITS, CLASSES_OF_LOGITS
    else:
        match = TRAINING.fullmatch(key)
        if match is None:
            raise ValueError(f"{key} is no key of a network or a training run")
        steps, batch, clones = int(match[5]), int(match[6]), int(match[7])
        seed, count, num_outputs = int(match[4]), steps * batch * clones, int(match[8])
    inputs = {
        "images": images(seed, count, int(match[3])),
        "labels": labels(seed, count, num_outputs),
    }
    shapes = json.loads((FOLDER / "variables.json").read_text())[f"{match[1]}_{match[2]}_1001"]
    for name, shape in shapes.items():
        if name.split("/")[1] == "Logits":
            shape = [*shape[:-1], num_outputs]
        inputs[name] = weights(name, tuple(shape))
    return inputs


def main(folder: Path) -> None:
    """Write the inputs of every key of `golden.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {key.split("/")[0] for key in np.load(FOLDER / "golden.npz").files}
    for key in sorted(keys - {"eval_96"}):  # its inputs are the three photographs
        arrays = {name.replace("/", "|"): value for name, value in inputs_of(key).items()}
        np.savez(folder / f"{key}.npz", **arrays)  # type: ignore[arg-type]
        print(f"{key}: {len(arrays)} arrays")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
