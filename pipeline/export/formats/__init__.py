"""Export formats: one object each, with its file, writer, runtime, tolerance and table columns."""

__all__ = ["export_format", "registry"]
