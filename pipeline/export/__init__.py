"""From a trained run to an export directory in which every file was compared."""

__all__ = [
    "directory",
    "exporter",
    "history",
    "job",
    "latency",
    "metrics",
    "per_image",
    "unfinished",
]
