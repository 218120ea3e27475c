"""Laws of `pipeline/benchmark`."""
