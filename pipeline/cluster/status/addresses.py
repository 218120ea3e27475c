"""The addresses of the pages that the platform serves, as they work from where the user is."""

from __future__ import annotations

import os
import shlex
import socket

PORTS = {"TensorBoard": ("tensorboard", 6006), "MLflow": ("mlflow", 5000)}
PROBE_SECONDS = 0.5


def line(namespace: str, context: str | None) -> str:
    """Return one line with the address of each page, or the command that makes it work.

    Args:
        namespace: The namespace of the platform.
        context: The context of the kubeconfig, if it is not the current one.
    """
    return "; ".join(
        f"{title} {_address(service, port, namespace, context)}"
        for title, (service, port) in PORTS.items()
    )


def _address(service: str, port: int, namespace: str, context: str | None) -> str:
    if "KUBERNETES_SERVICE_HOST" in os.environ:  # in a pod
        return f"http://{service}.{namespace}:{port}"
    address = f"http://localhost:{port}"
    if _answers(port):
        return address
    command = ["kubectl", *(["--context", context] if context else []), "-n", namespace]
    forward = shlex.join([*command, "port-forward", f"service/{service}", str(port)])
    return f"{address} after `{forward}`"


def _answers(port: int) -> bool:
    """Return whether something on this machine listens, such as a port-forward."""
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_SECONDS):
            return True
    except OSError:
        return False
