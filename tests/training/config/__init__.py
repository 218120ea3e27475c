"""Laws of `training/config`."""
