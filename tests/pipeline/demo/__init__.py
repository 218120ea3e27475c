"""Laws of `pipeline/demo`."""
