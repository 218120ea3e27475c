"""Laws of `preprocessing/`."""
