"""Execution of an ingest: Beam runners, local worker processes and a progress bar."""

__all__ = ["beam_graph", "beam_options", "local_workers", "progress_bar"]
