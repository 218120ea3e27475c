"""Laws of `training/weights`."""
