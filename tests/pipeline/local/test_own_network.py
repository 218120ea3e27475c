"""Only the workers of a run reach each other: TensorFlow's servers obey whoever reaches them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.node.network import can_make_namespaces

AS_NOBODY = (  # who may make no network except with a user namespace
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
DEVICES = """
import subprocess
from pipeline.local.own_network import own_network
with own_network() as prefix:
    print(subprocess.run([*prefix, "cat", "/proc/net/dev"], capture_output=True, text=True).stdout)
"""
KILLED = """
import os, signal
from pipeline.local.own_network import own_network
with own_network() as prefix:
    print(prefix[1], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
READ_A_FILE = """
import sys
import tensorflow as tf
tf.compat.v1.disable_eager_execution()
limit = tf.compat.v1.ConfigProto(operation_timeout_in_ms=int(sys.argv[3]))
with tf.compat.v1.Session(f"grpc://{sys.argv[1]}", config=limit) as session:
    print(session.run(tf.io.read_file(sys.argv[2])).decode())
"""
SECRET = "only the owner may read this"


@pytest.fixture(autouse=True)
def _allowed() -> None:
    if os.geteuid() or not can_make_namespaces():
        pytest.skip("needs root, and a container that lets root make namespaces")


@pytest.mark.parametrize("user", [(), AS_NOBODY], ids=["root", "nobody"])
def test_there_is_nothing_but_loopback(user: tuple[str, ...]) -> None:
    shown = subprocess.run(
        [*user, sys.executable, "-c", DEVICES], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    devices = [line.split(":")[0].strip() for line in shown.stdout.splitlines() if ":" in line]
    assert devices == ["lo"]


def test_it_ends_with_the_process_that_made_it() -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    target = killed.stdout.decode().strip()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{target.removeprefix('--target=')}").exists():
        assert time.monotonic() < deadline, "the holder outlived its maker"
        time.sleep(0.05)


@pytest.mark.slow
def test_nobody_else_reaches_the_servers_of_the_workers(records: Path, tmp_path: Path) -> None:
    """The attack works among the workers, so it is the network that keeps others away."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    run = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "pipeline", "train", "--variant=shallow_0.35_32"),
        *("--recipe=demo", f"--records={records}", f"--workdir={run}", "--workers=2"),
        *("--set=training.batch_per_replica=8", "--set=training.total_images=1000000"),
        "--set=loop.checkpoint_every_steps=10",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        try:
            while not (run / "progress.json").exists():
                assert training.poll() is None, training.stderr.read() if training.stderr else ""
                time.sleep(0.1)
            worker, addresses = worker_of(training.pid)
            inside = ["nsenter", f"--target={worker}", "--net", "--"]
            assert SECRET in attack(inside, addresses[0], secret, limit_ms=120_000)
            assert SECRET not in attack([], addresses[0], secret, limit_ms=5_000)
            for address in addresses:
                host, port = address.rsplit(":", 1)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((host, int(port)), 5)
        finally:
            training.send_signal(signal.SIGTERM)
            training.communicate(timeout=600)


def worker_of(parent: int) -> tuple[int, list[str]]:
    """Return a worker process and the addresses of all workers."""
    for process in map(int, children(parent)):
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        for variable in variables:
            if variable.startswith(b"TF_CONFIG="):
                config = json.loads(variable.removeprefix(b"TF_CONFIG="))
                return process, config["cluster"]["worker"]
    raise AssertionError(f"process {parent} has no workers")


def children(parent: int) -> list[str]:
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


def attack(prefix: list[str], address: str, path: Path, *, limit_ms: int) -> str:
    """Return what a TensorFlow session at this address says that the file holds."""
    command = [*prefix, sys.executable, "-c", READ_A_FILE, address, str(path), str(limit_ms)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
