"""Laws of `training/models`."""
