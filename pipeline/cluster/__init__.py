"""Runs on a Kubernetes cluster: render, launch, watch, resume; the manifests are in `k8s/`."""

__all__ = ["doctor", "launch", "record", "spec", "supervise"]
