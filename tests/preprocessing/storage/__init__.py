"""Laws of `preprocessing/storage`."""
