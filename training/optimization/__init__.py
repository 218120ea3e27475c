"""What a training step changes: gradients, optimizer, schedule, averages and precision."""

__all__ = [
    "compute",
    "gradients",
    "optimizer",
    "schedule",
    "state",
]
