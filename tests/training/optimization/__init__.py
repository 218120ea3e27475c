"""Laws of `training/optimization`."""
