"""Laws of `training/workdir`."""
