"""Sources of images: one module per layout, and the registry that recognises them."""

__all__ = ["archives", "held_out", "ignored", "names", "references", "registry", "words"]
