"""Laws of `pipeline/local`."""
