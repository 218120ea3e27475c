"""The golden check: logits and one training step on this device against the original's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.certificate.golden import figures, inputs
from pipeline.certificate.golden.training import ROUNDED_RUNS, GoldenTraining, tolerances
from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant

LOGITS_TOLERANCE = 2e-4  # of the logits' standard deviation
LOSSES = (
    "cross-entropy before the step",
    "L2 term before the step",
    "cross-entropy after the step",
    "L2 term after the step",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenFigure:
    """One figure of the original and what this device computes.

    Attributes:
        measured: None if it is not finite.
        allowed: The largest distance that rounding explains.
    """

    name: str
    original: float
    measured: float | None = None
    allowed: float

    @property
    def difference(self) -> float:
        """The distance between the two."""
        return math.inf if self.measured is None else abs(self.measured - self.original)

    @property
    def agrees(self) -> bool:
        """Whether the device computes the figure."""
        return self.difference <= self.allowed


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """The results of this machine.

    Attributes:
        logits: `float32 [2, 1001]` by device.
        losses: `[2, 2]`: the mean cross-entropy and the L2 term before each of two steps.
        rounded: The same from rounded weights.
    """

    logits: dict[str, np.ndarray]
    losses: np.ndarray
    rounded: list[np.ndarray]


def check(devices: list[str]) -> tuple[GoldenFigure, ...]:
    """Compare this machine with the original's figures.

    Args:
        devices: Names of logical devices. Each computes logits, the first makes the step.
    """
    return compare(compute(devices), figures.read())


def compute(devices: list[str]) -> Computed:
    """Return logits and losses in float32 without shorter products."""
    with _full_float32():
        training = GoldenTraining(figures.TRAINING, tf.distribute.OneDeviceStrategy(devices[0]))
        steps = len(LOSSES) // 2
        return Computed(
            logits={device: _logits(device) for device in devices},
            losses=training.losses(steps),
            rounded=[training.losses(steps, seed) for seed in ROUNDED_RUNS],
        )


def compare(computed: Computed, originals: Mapping[str, np.ndarray]) -> tuple[GoldenFigure, ...]:
    """Return every figure: of the logits the farthest of each device, and the losses."""
    return (*_compared_logits(computed, originals), *_compared_losses(computed, originals))


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Switch off TensorFloat-32, which GPUs otherwise use for products of float32."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _logits(device: str) -> np.ndarray:
    match = inputs.LOGITS.fullmatch(figures.LOGITS)
    assert match
    version, width, resolution, seed = match.groups()
    variant = Variant(f"mobilenet_{version}", width, int(resolution))
    layout = architecture(variant, inputs.CLASSES_OF_LOGITS)
    with tf.device(device):
        model = mobilenet(layout, ModelConfig(), resolution=variant.resolution)
        inputs.assign_weights(model, layout)
        images = inputs.images(int(seed), inputs.IMAGES_OF_LOGITS, variant.resolution)
        return np.asarray(model(tf.constant(images), training=False))


def _compared_logits(
    computed: Computed, originals: Mapping[str, np.ndarray]
) -> Iterator[GoldenFigure]:
    original = originals[figures.LOGITS]
    for device, logits in computed.logits.items():
        worst = int(np.argmax(np.abs(logits - original)))  # of NaN, the first
        yield GoldenFigure(
            name=f"logits on {device}",
            measured=_if_finite(logits.flat[worst]),
            original=float(original.flat[worst]),
            allowed=float(LOGITS_TOLERANCE * original.std()),
        )


def _compared_losses(
    computed: Computed, originals: Mapping[str, np.ndarray]
) -> Iterator[GoldenFigure]:
    original = originals[f"{figures.TRAINING}/loss"][: len(computed.losses)]
    allowed = tolerances(original, computed.losses, computed.rounded)
    for name, measured, expected, limit in zip(
        LOSSES, computed.losses.flat, original.flat, allowed.flat, strict=True
    ):
        yield GoldenFigure(
            name=name,
            measured=_if_finite(measured),
            original=float(expected),
            # Where rounding leads to NaN, nothing is explained.
            allowed=_if_finite(limit) or 0.0,
        )


def _if_finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
