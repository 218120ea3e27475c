"""Laws of `training/`."""
