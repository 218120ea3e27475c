"""The bytes of one image: read, checked and repaired."""

__all__ = ["contents", "orientation", "reader", "repair"]
