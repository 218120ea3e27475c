"""Inputs of the golden figures, computed from formulas: weights, images and labels."""

from __future__ import annotations

import re
import zlib

import keras
import numpy as np

from training.models.layout import Architecture
from training.weights.slim_checkpoint import slim_variables

# The two kinds of keys of the figures.
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


def assign_weights(model: keras.Model, layout: Architecture) -> None:
    """Set every variable of a network to `weights`."""
    for name, variable in slim_variables(model, layout).items():
        variable.assign(weights(name, tuple(variable.shape)))


def round_weights(model: keras.Model, rounding: float, seed: int) -> None:
    """Change every weight by the fraction `rounding`, up or down, as rounding might."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        value = np.asarray(variable.numpy())
        change = 1 + rounding * random.choice([-1, 1], value.shape)
        variable.assign((value * change).astype(np.float32))
