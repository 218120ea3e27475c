"""The Kubernetes API, typed: the only chapter that talks to a cluster."""

__all__ = ["gateway"]
