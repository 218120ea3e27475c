"""The cost of a run, and the limit of its speed on this machine."""

__all__ = ["diagnosis", "run_plan"]
