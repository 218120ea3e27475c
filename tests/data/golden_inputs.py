"""The golden figures, and files of their inputs.

    python -m tests.data.golden_inputs FOLDER

writes, for each network and training run of the figures, its weights by slim name, its images and
its labels as `FOLDER/KEY.npz`. Any implementation can be fed with them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.certificate.golden import figures
from pipeline.certificate.golden.inputs import (
    CLASSES_OF_LOGITS,
    IMAGES_OF_LOGITS,
    LOGITS,
    TRAINING,
    images,
    labels,
    weights,
)

FOLDER = Path(__file__).parent


def golden() -> Mapping[str, np.ndarray]:
    """Return all golden figures: those that every installation carries, and those of the tests."""
    with np.load(FOLDER / "golden.npz") as stored:
        return {**figures.read(), **{key: stored[key] for key in stored.files}}


def inputs_of(key: str) -> dict[str, np.ndarray]:
    """Return the inputs of a key of the figures: weights by slim name, `images` and `labels`."""
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
    """Write the inputs of every key of the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {key.split("/")[0] for key in golden()}
    for key in sorted(keys - {"eval_96"}):  # its inputs are the three photographs
        arrays = {name.replace("/", "|"): value for name, value in inputs_of(key).items()}
        np.savez(folder / f"{key}.npz", **arrays)  # type: ignore[arg-type]
        print(f"{key}: {len(arrays)} arrays")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
