"""A training run of the golden figures, repeatable from the weights of the formula."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipeline.certificate.golden import inputs
from training.config import override_all
from training.config.recipes import published
from training.input.parallelism import untuned
from training.loop.step import TrainSteps
from training.models.variants import Variant
from training.optimization.state import TrainingState, values

ROUNDING = 1e-6  # relative change of a weight: a few of float32's last places
ROUNDED_RUNS = (1, 2)  # seeds
EXACT = 1e-5  # relative, of a loss that rounding does not move


class GoldenTraining:
    """The training run of one key of the figures, in float32 and without compilation.

    Args:
        key: `train_...`.
        strategy: As many replicas as the key names.
    """

    def __init__(self, key: str, strategy: tf.distribute.Strategy) -> None:
        match = inputs.TRAINING.fullmatch(key)
        assert match
        self.seed, self.num_steps, self.batch, replicas, self.outputs = map(
            int, match.groups()[3:8]
        )
        self.variant = Variant(f"mobilenet_{match[1]}", match[2], int(match[3]))
        self.strategy = strategy
        config = override_all(
            published(self.variant),
            [
                "model.dropout=0",
                "compute.bfloat16=off",
                "compute.xla=off",
                f"training.batch_per_replica={self.batch}",
                f"optimizer.learning_rate_per_replica={float(match[9]) / replicas}",
            ],
        )
        with strategy.scope():
            self.state = TrainingState(
                config, num_outputs=self.outputs, num_examples=10**9, num_replicas=replicas
            )
            self._fresh = [variable.numpy() for variable in self._variables()]
        self._count = self.num_steps * replicas * self.batch
        self._train_steps = TrainSteps(strategy, self.state, config)

    def losses(self, num_steps: int, rounding_seed: int | None = None) -> np.ndarray:
        """Train from the formula's weights, rounded if there is a seed for it.

        Returns:
            `[num_steps, 2]`: the mean cross-entropy and the L2 term before each update.
        """
        with self.strategy.scope():
            for variable, value in zip(self._variables(), self._fresh, strict=True):
                variable.assign(value)
            inputs.assign_weights(self.state.model, self.state.layout)
            if rounding_seed is not None:
                inputs.round_weights(self.state.model, ROUNDING, rounding_seed)
            self.state.ema.restart(values(self.state.model))
        iterator = iter(
            self.strategy.distribute_datasets_from_function(lambda context: self._batches())
        )
        losses = []
        for _ in range(num_steps):
            regularization = float(tf.add_n(self.state.model.losses))
            losses.append([self._train_steps.run(iterator, 1).loss, regularization])
        return np.asarray(losses)

    def _batches(self) -> tf.data.Dataset:
        labels = inputs.labels(self.seed, self._count, self.outputs).reshape(-1, self.batch)
        pictures = inputs.images(self.seed, self._count, self.variant.resolution)
        pictures = pictures.reshape(-1, self.batch, *pictures.shape[1:])
        return untuned(tf.data.Dataset.from_tensor_slices((pictures, labels)).repeat())

    def _variables(self) -> list[tf.Variable]:
        return [
            variable for part in self.state.checkpointed().values() for variable in part.values()
        ]


def tolerances(figures: np.ndarray, ours: np.ndarray, rounded: list[np.ndarray]) -> np.ndarray:
    """Return how far losses may be from the figures: as far as rounding explains.

    On the noise images some channels hardly vary, and batch normalisation magnifies float32
    rounding: a sum in another order, which follows from the processor's caches and vector units,
    moves the loss of step 5 by percents (in float64 the run is smooth). So the figures must be as
    close as runs whose initial weights differ from the formula's by rounding: at most three times
    as far from ours.

    Args:
        figures: `[steps, 2]`, the original's losses.
        ours: The same of this device.
        rounded: The same from rounded weights.
    """
    # The largest distance so far: rounding errors only grow.
    distances = np.abs([losses - ours for losses in rounded]).max(axis=0)
    return EXACT * figures + 3 * np.maximum.accumulate(distances, axis=0)
