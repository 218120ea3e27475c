"""The learning rate as plain arithmetic; TensorFlow is not needed to plan a run."""

from __future__ import annotations

from training.config import OptimizerConfig

IMAGENET_EXAMPLES = 1_281_167


def decay_steps(
    config: OptimizerConfig, *, num_examples: int, batch_per_replica: int, num_replicas: int
) -> int:
    """Steps between two decays: 33363, 16681, 8340, 4170 for 1, 2, 4, 8 replicas on ImageNet."""
    return max(1, int(num_examples * config.decay_epochs / num_replicas / batch_per_replica))


def learning_rate_at(
    step: int, config: OptimizerConfig, *, num_replicas: int, decay_steps: int
) -> float:
    """Staircase: `learning_rate_per_replica * replicas * decay_rate^floor(step / decay_steps)`.

    Args:
        step: Updates already made.
        config: The recipe's.
        num_replicas: Over all workers.
        decay_steps: Of the function of that name.
    """
    start = config.learning_rate_per_replica * num_replicas
    return float(start * config.decay_rate ** (step // decay_steps))
