"""The servers of a tf.data service: one dispatcher, and one worker per CPU node."""

from __future__ import annotations

import json

import tensorflow as tf


def serve_dispatcher(port: int, work_dir: str) -> None:
    """Hand out work until killed. A dispatcher that is started again on `work_dir` knows its jobs.

    It prints one JSON line with its address as soon as it answers.
    """
    service = tf.data.experimental.service
    server = service.DispatchServer(
        service.DispatcherConfig(port=port, work_dir=work_dir, fault_tolerant_mode=True)
    )
    print(json.dumps({"dispatcher": server.target}), flush=True)
    server.join()


def serve_worker(dispatcher: str, port: int, host: str) -> None:
    """Make batches until killed. A worker that is started again under its name is the same worker.

    Args:
        dispatcher: The address `grpc://host:port` of the dispatcher.
        port: The port to listen on.
        host: The name under which the trainers reach this machine.
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
