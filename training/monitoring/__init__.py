"""What people watch during a run: progress lines, TensorBoard and its pictures."""

__all__ = [
    "progress_report",
    "summaries",
    "tensorboard",
]
