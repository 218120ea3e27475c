"""On this machine: workers, messages, quiet imports, event files, the data-service server."""

__all__ = [
    "data_service_server",
    "event_files",
    "interruption",
    "messages",
    "processes",
    "quiet",
]
