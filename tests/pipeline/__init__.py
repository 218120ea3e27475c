"""Laws of `pipeline/`."""
