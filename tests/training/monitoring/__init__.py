"""Laws of `training/monitoring`."""
