"""Processes on this machine: workers, quiet imports and the data-service server."""

__all__ = ["data_service_server", "processes", "quiet"]
