"""Backends: the kinds of jobs that run a stage, one module per kind."""

__all__ = ["registry"]
