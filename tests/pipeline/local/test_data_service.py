"""A service of real processes feeds trainers, whichever of its processes is killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from tests.conftest import mobilenet
from training.config import AugmentationConfig
from training.input.data import Share, training_batches
from training.input.data_service import served
from training.input.records import Records

BATCH = 10
STEPS_PER_EPOCH = 36  # 360 validation examples
ALONE = Share(worker_index=0, num_workers=1, local_replicas=1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Service:
    """One dispatcher and one worker, each a real process with its own port."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._ports = {"dispatcher": free_port(), "worker": free_port()}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.address = f"grpc://localhost:{self._ports['dispatcher']}"

    def start(self, role: str) -> None:
        extra = {
            "dispatcher": [f"--work-dir={self._work_dir}"],
            "worker": [f"--dispatcher={self.address}"],
        }[role]
        command = [sys.executable, "-m", "pipeline", "data-service", f"--role={role}"]
        process = subprocess.Popen(
            [*command, f"--port={self._ports[role]}", *extra], stdout=subprocess.PIPE, text=True
        )
        self._processes[role] = process
        assert process.stdout
        assert role in json.loads(process.stdout.readline())

    def kill(self, role: str, number: signal.Signals) -> None:
        process = self._processes.pop(role)
        process.send_signal(number)
        assert process.wait(60) == -number

    def close(self) -> None:
        for role in list(self._processes):
            self.kill(role, signal.SIGKILL)


@contextmanager
def service(work_dir: Path) -> Iterator[Service]:
    running = Service(work_dir)
    try:
        running.start("dispatcher")
        running.start("worker")
        yield running
    finally:
        running.close()


def batches(records: Path, seed: int = 4) -> tf.data.Dataset:
    return training_batches(
        Records(str(records), Manifest.read(str(records)), "validation"),
        AugmentationConfig(),
        size=32,
        seed=seed,
        batch_per_replica=BATCH,
        share=ALONE,
        start_step=0,
    )


def contents(elements: list[Any]) -> Counter[bytes]:
    return Counter(b"".join(tensor.tobytes() for tensor in element) for element in elements)


@pytest.mark.slow
def test_one_worker_serves_several_trainers_the_very_batches_in_order(
    records: Path, tmp_path: Path
) -> None:
    expected = list(batches(records).take(STEPS_PER_EPOCH).as_numpy_iterator())
    with service(tmp_path) as running:
        trainers = [iter(served(batches(records), running.address)) for _ in range(2)]
        for step in range(STEPS_PER_EPOCH):
            for trainer in trainers:
                for there, here in zip(next(trainer), expected[step], strict=True):
                    assert np.array_equal(there, here)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restarted_dispatcher_and_worker_serve_on_and_alter_no_batch(
    records: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """No batch comes twice before the worker ends; a restarted worker repeats some."""
    possible = contents(list(batches(records).take(6 * STEPS_PER_EPOCH).as_numpy_iterator()))
    with service(tmp_path) as running:
        trainer = iter(served(batches(records), running.address))
        seen = [[part.numpy() for part in next(trainer)] for _ in range(10)]
        for role in ("dispatcher", "worker"):
            running.kill(role, number)
            running.start(role)
            seen += [[part.numpy() for part in next(trainer)] for _ in range(40)]
    assert max(contents(seen[:50]).values()) == 1
    assert set(contents(seen)) <= set(possible)


@pytest.mark.parametrize("address", ["localhost:5000", "grpc://localhost", "http://a:1"])
def test_what_is_no_address_is_refused(records: Path, address: str) -> None:
    with pytest.raises(UsageError, match=r"expects grpc://HOST:PORT, got"):
        served(batches(records), address)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--role=worker", "--port=1"], "--dispatcher is needed"),
        (["--role=dispatcher", "--port=1"], "--work-dir is needed"),
    ],
)
def test_a_role_without_what_it_needs_is_one_line(flags: list[str], words: str) -> None:
    outcome = mobilenet("data-service", *flags)
    assert outcome.code == 2
    assert words in outcome.err.splitlines()[-1]
