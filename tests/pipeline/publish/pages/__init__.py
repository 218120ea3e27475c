"""Laws of `pipeline/publish/pages`."""
