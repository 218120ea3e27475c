"""Laws of `preprocessing/sources`."""
