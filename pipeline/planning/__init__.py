"""The cost of a run, and the limit of its speed on this machine."""

__all__ = ["bench", "diagnosis", "run_plan"]
