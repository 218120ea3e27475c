"""Laws of `preprocessing/records`."""
