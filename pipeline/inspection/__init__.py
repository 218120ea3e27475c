"""The content of a records folder: counts, duplicates and contact sheets."""

__all__ = ["inspection"]
