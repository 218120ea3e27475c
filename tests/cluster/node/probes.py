"""Readiness probes, asked from inside the pod's network."""

from __future__ import annotations

import http.client
import socket

from tests.cluster.api import Object
from tests.cluster.node.network import inside

TIMEOUT_SECONDS = 1.0


def passes(probe: Object, container: Object, network: int) -> bool:
    """Return whether a container's probe (`tcpSocket` or `httpGet`) succeeds."""
    ports = {port.get("name"): port["containerPort"] for port in container.get("ports") or []}
    asked = probe.get("httpGet") or probe["tcpSocket"]
    port = ports.get(asked["port"], asked["port"])

    def ask() -> bool:
        if "tcpSocket" in probe:
            socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS).close()
            return True
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", asked.get("path", "/"))
            return connection.getresponse().status < 400
        except http.client.HTTPException:
            return False

    try:
        return inside(network, ask)
    except OSError:
        return False
