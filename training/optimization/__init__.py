"""What a training step changes: gradients, optimizer, schedule, averages and precision."""
