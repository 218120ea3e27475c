"""One run on disk: its record, checkpoints, attempts and lock."""

__all__ = [
    "attempts",
    "checkpoint",
    "checkpoint_files",
    "evaluations",
    "forks",
    "lock",
    "overview",
    "progress",
    "recovery",
    "run_record",
    "workdir",
]
