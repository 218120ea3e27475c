"""One training run: the inner loop on the device, the outer loop on the host, and evaluation."""

__all__ = [
    "evaluate",
    "follow",
    "run",
    "step",
    "train_job",
]
