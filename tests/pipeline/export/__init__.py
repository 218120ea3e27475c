"""Laws of `pipeline/export`."""
