"""What a run will cost, and what limits its speed here."""

__all__ = ["diagnosis", "run_plan"]
