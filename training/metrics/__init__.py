"""What a step and an evaluation measured: means, counts and accuracies, without TensorFlow."""

__all__ = [
    "accuracy",
    "step_means",
]
