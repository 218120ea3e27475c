"""The whole pipeline on a small real dataset, and that dataset."""

__all__ = ["demo", "sample"]
