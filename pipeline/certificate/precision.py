"""bfloat16 against float32: the same weights and images, forward and backward."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.certificate.golden import inputs
from pipeline.planning.bench import during
from training.config import RunConfig, override_all
from training.input.data import SINGLE_PROCESS, finished
from training.input.source import Source
from training.optimization import compute
from training.optimization.gradients import Gradients
from training.optimization.state import TrainingState

BFLOAT16_ROUNDING = 2.0**-9  # relative, at most
ROUNDED_RUNS = (1, 2)  # seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """bfloat16 against float32 on one batch of training images.

    Both networks have the weights of the golden figures' formula, through which signals pass, and
    infer. No network of random weights is smooth, so the measure of what rounding explains are
    float32 networks whose weights were rounded to bfloat16.

    Attributes:
        images: Images of the batch.
        logits_difference: Root mean square of the differences of logits, in standard deviations
            of the logits in float32; None if it is not finite.
        explained_difference: The same of the network with rounded weights, the largest.
        top1_agreement: Fraction of the images that have the same best class.
        explained_agreement: The same of the network with rounded weights, the smallest.
        loss: Mean cross-entropy by precision; without one that is not finite.
        images_per_second: Speed of forward and backward pass on one device, by precision.
        training_uses: The precision of the config on this machine.
    """

    images: int
    logits_difference: float | None = None
    explained_difference: float
    top1_agreement: float
    explained_agreement: float
    loss: dict[str, float]
    images_per_second: dict[str, float]
    training_uses: str


def compare(config: RunConfig, source: Source, device: str, seconds: float) -> Precision:
    """Compute one batch in both precisions, and time each, in about `seconds`."""
    end = time.monotonic() + seconds
    images, labels = next(iter(finished(source.batches(config, SINGLE_PROCESS, 0))))
    num_outputs = len(source.manifest.classes) + 1
    with tf.device(device):
        passes = {
            name: _Pass(config, switch, num_outputs, images, labels)
            for name, switch in (("float32", "off"), ("bfloat16", "on"))
        }
        logits = {name: passed.logits() for name, passed in passes.items()}
        rounded = [passes["float32"].logits(seed) for seed in ROUNDED_RUNS]
        for passed in passes.values():
            passed.run(1)  # it is traced
        pace = during(max(0.0, end - time.monotonic()) / len(passes))
        speed = {name: len(labels) * pace(passed.run) for name, passed in passes.items()}
    loss = {name: _cross_entropy(labels, values) for name, values in logits.items()}
    exact = logits["float32"]
    difference = _difference(logits["bfloat16"], exact)
    return Precision(
        images=len(labels),
        logits_difference=difference if np.isfinite(difference) else None,
        explained_difference=max(_difference(values, exact) for values in rounded),
        top1_agreement=_agreement(logits["bfloat16"], exact),
        explained_agreement=min(_agreement(values, exact) for values in rounded),
        loss={name: value for name, value in loss.items() if np.isfinite(value)},
        images_per_second={name: float(f"{value:.4g}") for name, value in speed.items()},
        training_uses=compute.dtype_policy(config.compute).removeprefix("mixed_"),
    )


def _difference(logits: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((logits - exact) ** 2)) / exact.std())


def _agreement(logits: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean(logits.argmax(axis=1) == exact.argmax(axis=1)))


def _cross_entropy(labels: tf.Tensor, logits: np.ndarray) -> float:
    return float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))


class _Pass:
    """A network in one precision, and a batch."""

    def __init__(
        self, config: RunConfig, switch: str, num_outputs: int, images: tf.Tensor, labels: tf.Tensor
    ) -> None:
        config = override_all(config, [f"compute.bfloat16={switch}"])
        self._batch = (tf.identity(images), tf.identity(labels), tf.zeros([2], tf.int64))
        self._state = TrainingState(
            config, num_outputs=num_outputs, num_examples=len(labels), num_replicas=1
        )
        model = self._state.model
        self._infer = tf.function(lambda images: model(images, training=False))
        self._gradients = Gradients(self._state, config, num_replicas=1)

    def logits(self, rounding_seed: int | None = None) -> np.ndarray:
        """Return `float32 [N, outputs]`, with weights that are rounded if there is a seed."""
        inputs.assign_weights(self._state.model, self._state.layout)
        if rounding_seed is not None:
            inputs.round_weights(self._state.model, BFLOAT16_ROUNDING, rounding_seed)
        return np.asarray(self._infer(self._batch[0]))

    def run(self, count: int) -> None:
        """Compute gradients `count` times."""
        for _ in range(count):
            gradients, _ = self._gradients(*self._batch)
        gradients[0].numpy()  # a device works ahead of the host until its results are read
