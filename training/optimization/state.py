"""The state of training: everything that a step changes, and its initial values."""

from __future__ import annotations

import keras
import tensorflow as tf

from training.config import RunConfig
from training.models.architecture import architecture
from training.models.layout import Architecture
from training.models.mobilenet import mobilenet
from training.optimization import compute
from training.optimization.ema import ExponentialMovingAverage
from training.optimization.optimizer import WarmedStaircase, rmsprop
from training.optimization.schedule import Schedule, steps_of
from training.workdir.run_record import Run


class TrainingState(tf.Module):
    """Model, optimizer and averages. Create it inside the strategy's scope.

    Attributes:
        layout: The architecture that the models follow.
        averaged_model: The same network to evaluate with the averages; not checkpointed.
        head_steps: Number of updates at the start that move only the classifier.
    """

    def __init__(
        self, config: RunConfig, *, num_outputs: int, num_examples: int, num_replicas: int
    ) -> None:
        super().__init__(name="training_state")
        self.variant = config.variant
        self.layout = architecture(self.variant, num_outputs)
        self.model = build_model(config, self.layout, compute.dtype_policy(config.compute))
        self.schedule = WarmedStaircase(
            Schedule.of(
                config.optimizer,
                num_examples=num_examples,
                batch_per_replica=config.training.batch_per_replica,
                num_replicas=num_replicas,
            )
        )
        self.head_steps = steps_of(
            config.training.head_epochs,
            num_examples,
            config.training.batch_per_replica,
            num_replicas,
        )
        self.optimizer = rmsprop(config.optimizer, self.schedule)
        self.optimizer.build(self.model.trainable_variables)
        self.ema = ExponentialMovingAverage(values(self.model), config.training.ema_decay)
        self.averaged_model = build_model(config, self.layout)
        self.features, self.classifier = _split(self.model)

    @classmethod
    def of(cls, run: Run) -> TrainingState:
        """Return the initial state of a run."""
        return cls(
            run.config,
            num_outputs=run.num_outputs,
            num_examples=run.num_examples,
            num_replicas=run.num_replicas,
        )

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.optimizer.iterations.numpy())

    def regularization(self) -> tf.Tensor:
        """Return the L2 term of the loss, `float32 []`."""
        losses = self.model.losses  # none without weight decay
        return tf.add_n(losses) if losses else tf.constant(0.0)

    def average(self) -> None:
        """Copy the averages into `averaged_model`, in replica context."""
        self.ema.copy_to(values(self.averaged_model))

    def checkpointed(self) -> dict[str, dict[str, tf.Variable]]:
        """Return the content of a checkpoint by name, so that order and nesting do not matter."""
        names = [variable.path for variable in self.model.variables]
        return {
            "model": dict(zip(names, values(self.model), strict=True)),
            "ema": dict(zip(names, self.ema.shadows, strict=True)),
            "optimizer": {variable.path: variable.value for variable in self.optimizer.variables},
        }


def build_model(config: RunConfig, layout: Architecture, dtype: str = "float32") -> keras.Model:
    """Return the network of a run: `float32 [N, S, S, 3]` to logits `[N, outputs]`."""
    resolution = config.variant.resolution
    return mobilenet(layout, config.model, resolution=resolution, seed=config.seed, dtype=dtype)


def values(model: keras.Model) -> list[tf.Variable]:
    """Return the model's variables as those of TensorFlow, in the model's order."""
    return [variable.value for variable in model.variables]


def _split(model: keras.Model) -> tuple[keras.Model, keras.layers.Layer]:
    """Return the network up to the pooled features `[N, 1, 1, C]`, and its classifier."""
    classifier = model.layers[-2]
    return keras.Model(model.input, classifier.input, name="features"), classifier
