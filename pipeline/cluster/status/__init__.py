"""What a cluster shows of a run: attempts, progress, logs and the table of runs."""

__all__ = ["logs", "runs_table"]
