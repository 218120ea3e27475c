"""Laws of `pipeline/certificate/golden`."""
