"""Laws of `training/workers`."""
