"""Laws of `pipeline/certificate`."""
