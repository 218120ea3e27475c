"""Heartbeats: how long a worker may be silent before the others give it up."""

from __future__ import annotations

from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context

from training.workers.cluster import Cluster

# A link that is down for less than half of it is borne, because a heartbeat has so long to arrive;
# TensorFlow's own limit is ten seconds. Only a worker that is frozen or cut off is noticed by its
# silence: the connections of a process that ends are closed.
LONGEST_SILENCE_SECONDS = 30.0


def bear_silence(cluster: Cluster) -> None:
    """Let the strategy that is made next bear a silence of `LONGEST_SILENCE_SECONDS`."""
    if not cluster.has_peers:
        return
    workers = coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(cluster.workers))
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=int(LONGEST_SILENCE_SECONDS * 1000),
        coordinated_jobs=[workers],
    )
