"""Small training states and their inner loop, for tests of a single step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tests.shallow_family import VARIANT
from training.config import RunConfig, override_all
from training.config.recipes import demo
from training.input.parallelism import untuned
from training.loop.step import TrainSteps
from training.metrics.step_means import StepMeans
from training.models.variants import Variant
from training.optimization.state import TrainingState

OUTPUTS = 11
BATCH = 4


def small_config(*overrides: str, variant: str = VARIANT) -> RunConfig:
    """Return the demo's config with batches of `BATCH`."""
    assignments = (f"training.batch_per_replica={BATCH}", *overrides)
    return override_all(demo(Variant.parse(variant)), assignments)


def batches(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return eight batches whose statistics differ widely: each is brighter than the last."""
    random = np.random.default_rng(seed)
    brightness = np.linspace(-0.6, 0.6, 8).reshape(8, 1, 1, 1, 1)
    images = random.uniform(-0.4, 0.4, (8, BATCH, 32, 32, 3)) + brightness
    return images.astype(np.float32), random.integers(1, OUTPUTS, (8, BATCH))


def learned(means: StepMeans) -> dict[str, float]:
    """Return the report of a call of the inner loop, without clock times."""
    return dataclasses.asdict(dataclasses.replace(means, input_wait=0.0))


class Training:
    """A state and its inner loop, which can start over without being traced again."""

    def __init__(self, strategy: tf.distribute.Strategy, config: RunConfig) -> None:
        self._strategy = strategy
        with strategy.scope():
            self.state = TrainingState(
                config,
                num_outputs=OUTPUTS,
                num_examples=100,
                num_replicas=strategy.num_replicas_in_sync,
            )
        self.steps = TrainSteps(strategy, self.state, config)
        self._initial = [variable.numpy() for variable in self._variables]
        self.start_over()

    @property
    def _variables(self) -> list[Any]:
        named = self.state.checkpointed().values()
        return [variable for section in named for variable in section.values()]

    def start_over(self, repeats: int = 1) -> None:
        """Return to the initial state, on batches of which each comes `repeats` times."""
        for variable, initial in zip(self._variables, self._initial, strict=True):
            variable.assign(initial)
        elements = [np.repeat(part, repeats, axis=0) for part in batches()]

        def stream(_: Any) -> tf.data.Dataset:
            return untuned(tf.data.Dataset.from_tensor_slices(tuple(elements)).repeat())

        self._iterator = iter(self._strategy.distribute_datasets_from_function(stream))

    def run(self, steps: int) -> StepMeans:
        """Make some steps."""
        return self.steps.run(self._iterator, steps)

    def everything(self) -> list[np.ndarray]:
        """Return all variables."""
        return [variable.numpy() for variable in self._variables]
