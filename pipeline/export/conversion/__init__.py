"""The code behind the export formats: converters, runtimes and checks of a file's structure."""

__all__ = ["litert"]
