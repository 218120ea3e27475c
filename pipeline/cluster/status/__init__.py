"""The status of runs on a cluster: attempts, progress, logs and the table of runs."""

__all__ = ["addresses", "logs", "runs_table"]
