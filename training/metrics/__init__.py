"""Metrics of steps and evaluations: means, counts and accuracies, without TensorFlow."""

__all__ = [
    "accuracy",
    "step_means",
]
