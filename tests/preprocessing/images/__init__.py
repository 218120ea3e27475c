"""Laws of `preprocessing/images`."""
