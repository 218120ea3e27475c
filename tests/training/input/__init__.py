"""Laws of `training/input`."""
