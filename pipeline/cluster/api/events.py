"""Events about runs, which `kubectl events` and dashboards show."""

from __future__ import annotations

import contextlib
import uuid
from datetime import UTC, datetime

from pipeline.cluster.api.gateway import Gateway
from preprocessing.errors import PermanentError, RetryError

LONGEST_MESSAGE = 1000  # characters; the API server takes 1,024
REPORTER = "mobilenet-supervisor"


def warn(gateway: Gateway, run: str, message: str) -> None:
    """Attach a warning to the record of a run; do nothing if the cluster refuses it."""
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{run}.{uuid.uuid4().hex[:16]}"},
        "type": "Warning",
        "reason": "SetBack",
        "message": message[:LONGEST_MESSAGE],
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": run,
            "namespace": gateway.namespace,
        },
        "source": {"component": REPORTER},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
    with contextlib.suppress(PermanentError, RetryError):
        gateway.create(event)
