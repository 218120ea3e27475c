"""The learning rate as plain arithmetic; TensorFlow is not needed to plan a run."""

from __future__ import annotations

from dataclasses import dataclass

from training.config import OptimizerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A recipe's learning rate for a number of replicas: a staircase, perhaps after a linear rise.

    Attributes:
        start: Learning rate before any decay, of all replicas together.
        decay_rate: Factor per stair.
        decay_steps: Updates per stair: 33363, 16681, 8340, 4170 for 1, 2, 4, 8 replicas on
            ImageNet.
        warmup_steps: Updates of the rise; 0 for none.
    """

    start: float
    decay_rate: float
    decay_steps: int
    warmup_steps: int

    @classmethod
    def of(
        cls,
        config: OptimizerConfig,
        *,
        num_examples: int,
        batch_per_replica: int,
        num_replicas: int,
    ) -> Schedule:
        """Return the schedule for a number of replicas; every number means the same recipe."""

        def steps(epochs: float) -> int:
            return steps_of(epochs, num_examples, batch_per_replica, num_replicas)

        return cls(
            start=config.learning_rate_per_replica * num_replicas,
            decay_rate=config.decay_rate,
            decay_steps=max(1, steps(config.decay_epochs)),
            warmup_steps=steps(config.warmup_epochs),
        )

    def at(self, step: int) -> float:
        """Return `start * decay_rate^floor(step / decay_steps)`, times the done part of the rise.

        Args:
            step: Number of updates so far.
        """
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return float(self.start * self.decay_rate ** (step // self.decay_steps) * rise)


def steps_of(epochs: float, num_examples: int, batch_per_replica: int, num_replicas: int) -> int:
    """Return the number of updates in `epochs` passes over the data, truncated as in slim."""
    return int(num_examples * epochs / num_replicas / batch_per_replica)
