"""The servers of a tf.data service: one dispatcher, and one worker per CPU node."""

from __future__ import annotations

import json

import tensorflow as tf


def serve_dispatcher(port: int, work_dir: str) -> None:
    """Hand out work until killed; started again on `work_dir`, it knows its jobs.

    Prints one JSON line with its address once it answers.
    """
    service = tf.data.experimental.service
    server = service.DispatchServer(
        service.DispatcherConfig(port=port, work_dir=work_dir, fault_tolerant_mode=True)
    )
    print(json.dumps({"dispatcher": server.target}), flush=True)
    server.join()


def serve_worker(dispatcher: str, port: int, host: str) -> None:
    """Make batches until killed; started again under the same name, it is the same worker.

    Args:
        dispatcher: `grpc://host:port`.
        port: To listen on.
        host: Under which the trainers reach this machine.
    """
    service = tf.data.experimental.service
    server = service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=dispatcher.removeprefix("grpc://"),
            worker_address=f"{host}:{port}",
            port=port,
            heartbeat_interval_ms=1000,
        )
    )
    print(json.dumps({"worker": f"{host}:{port}"}), flush=True)
    server.join()
