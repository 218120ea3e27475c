"""Execution of an ingest: Beam runners, local worker processes and a progress bar."""
