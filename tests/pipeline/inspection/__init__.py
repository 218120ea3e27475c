"""Laws of `pipeline/inspection`."""
