"""Processes on this machine: workers, quiet imports and the data-service server."""
