"""The bytes of one image: read, checked and repaired."""

__all__ = ["contents", "reader", "repair"]
