"""The servers of a tf.data service: one dispatcher, and one worker per CPU node."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from typing import NoReturn

import tensorflow as tf

from preprocessing.errors import UsageError

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 0.5


def serve_dispatcher(port: int, work_dir: str) -> None:
    """Hand out work until killed. A dispatcher that is started again on `work_dir` knows its jobs.

    It prints one JSON line with its address as soon as it answers.
    """
    service = tf.data.experimental.service
    server = service.DispatchServer(
        service.DispatcherConfig(port=port, work_dir=work_dir, fault_tolerant_mode=True)
    )
    print(json.dumps({"dispatcher": server.target}), flush=True)
    _serve(server)


def serve_worker(dispatcher: str, port: int, host: str) -> None:
    """Make batches until killed. A worker that is started again under its name is the same worker.

    Args:
        dispatcher: The address `grpc://host:port` of the dispatcher.
        port: The port to listen on.
        host: The name under which the trainers reach this machine.
    """
    address = dispatcher.removeprefix("grpc://")
    _await(address)
    service = tf.data.experimental.service
    server = service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=address,
            worker_address=f"{host}:{port}",
            port=port,
            heartbeat_interval_ms=1000,
        )
    )
    print(json.dumps({"worker": f"{host}:{port}"}), flush=True)
    _serve(server)


def _await(address: str) -> None:
    """Wait for the dispatcher here: TensorFlow holds the interpreter lock while it does.

    Raises:
        UsageError: The address has another form.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        raise UsageError(f"--dispatcher expects grpc://HOST:PORT, got {address!r}")
    told = False
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
                return
        except OSError as error:
            if not told:
                logger.info("data-service: waiting for the dispatcher %s (%s)", address, error)
            told = True
            time.sleep(LOOK_SECONDS)


def _serve(server: object) -> NoReturn:
    """Keep a server until this process is killed; its own `join` does not hear Ctrl-C."""
    threading.Event().wait()
    raise AssertionError(server)
