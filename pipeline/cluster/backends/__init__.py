"""How a training stage runs on a cluster: one module per kind of job."""

__all__ = ["registry"]
