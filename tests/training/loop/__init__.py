"""Laws of `training/loop`."""
