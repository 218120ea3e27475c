"""Laws of `pipeline/planning`."""
