"""On this machine: workers, quiet imports, event files, the data-service server."""

__all__ = ["data_service_server", "event_files", "processes", "quiet"]
