"""What a step and an evaluation measured: means, counts and accuracies, without TensorFlow."""
