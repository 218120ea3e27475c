"""The command line `mobilenet`: one module per command."""

from pipeline.cli.entry_point import main

__all__ = ["main"]
