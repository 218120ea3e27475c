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
from training.models.mobilenet import frozen_statistics
from training.optimization import compute
from training.optimization.gradients import Gradients
from training.optimization.state import TrainingState


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """bfloat16 against float32 on one batch of training images, as training computes it.

    Both networks have the weights of the golden figures' formula, through which signals pass, and
    normalise by the batch.

    Attributes:
        images: Images of the batch.
        logits_difference: Root mean square of the differences of logits, in standard deviations
            of the logits in float32; None if it is not finite.
        top1_agreement: Fraction of the images that have the same best class.
        loss: Mean cross-entropy by precision; without one that is not finite.
        images_per_second: Speed of forward and backward pass on one device, by precision.
        training_uses: The precision of the config on this machine.
    """

    images: int
    logits_difference: float | None = None
    top1_agreement: float
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
        loss = {name: passed.loss() for name, passed in passes.items()}
        pace = during(max(0.0, end - time.monotonic()) / len(passes))
        speed = {name: len(labels) * pace(passed.run) for name, passed in passes.items()}
    exact, rounded = logits["float32"], logits["bfloat16"]
    difference = float(np.sqrt(np.mean((rounded - exact) ** 2)) / exact.std())
    return Precision(
        images=len(labels),
        logits_difference=difference if np.isfinite(difference) else None,
        top1_agreement=float(np.mean(exact.argmax(axis=1) == rounded.argmax(axis=1))),
        loss={name: value for name, value in loss.items() if np.isfinite(value)},
        images_per_second={name: float(f"{value:.4g}") for name, value in speed.items()},
        training_uses=compute.dtype_policy(config.compute).removeprefix("mixed_"),
    )


class _Pass:
    """A network in one precision, and a batch."""

    def __init__(
        self, config: RunConfig, switch: str, num_outputs: int, images: tf.Tensor, labels: tf.Tensor
    ) -> None:
        config = override_all(config, [f"compute.bfloat16={switch}", "model.dropout=0"])
        self._batch = (tf.identity(images), tf.identity(labels), tf.zeros([2], tf.int64))
        self._state = TrainingState(
            config, num_outputs=num_outputs, num_examples=len(labels), num_replicas=1
        )
        inputs.assign_weights(self._state.model, self._state.layout)
        self._gradients = Gradients(self._state, config, num_replicas=1)

    def logits(self) -> np.ndarray:
        """Return `float32 [N, outputs]`, normalised by the batch."""
        with frozen_statistics():
            model = self._state.model
            logits = tf.function(lambda images: model(images, training=True))(self._batch[0])
        return np.asarray(logits)

    def loss(self) -> float:
        """Return the mean cross-entropy."""
        _, (cross_entropy, _, images) = self._gradients(*self._batch)
        return float(cross_entropy / images)

    def run(self, count: int) -> None:
        """Compute loss and gradients `count` times."""
        for _ in range(count):
            gradients, _ = self._gradients(*self._batch)
        gradients[0].numpy()  # a device works ahead of the host until its results are read
