"""Laws of `pipeline/cli`."""
