"""From an export to a published folder and a registry, and back."""
