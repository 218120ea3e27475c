"""Laws of `preprocessing/execution`."""
