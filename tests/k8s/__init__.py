"""Laws of the manifests."""
