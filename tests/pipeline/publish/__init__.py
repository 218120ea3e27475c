"""Laws of `pipeline/publish`."""
