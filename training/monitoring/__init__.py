"""Monitoring of a run: progress lines, TensorBoard and its pictures."""

__all__ = [
    "image_grid",
    "plot_text",
    "progress_report",
    "summaries",
    "tensorboard",
]
