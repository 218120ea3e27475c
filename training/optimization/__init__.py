"""The parts of a training step: gradients, optimizer, schedule, averages and precision."""

__all__ = [
    "class_weights",
    "compute",
    "gradients",
    "optimizer",
    "schedule",
    "state",
]
