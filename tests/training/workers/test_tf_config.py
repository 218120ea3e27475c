"""Two processes train together, however their TF_CONFIG names them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local.processes import free_ports

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("host", "roles"),
    [("127.0.0.1", ("chief", "worker")), ("[::1]", ("worker", "worker"))],
    ids=["a chief and a worker", "IPv6"],
)
def test_two_workers_meet_and_train(
    host: str, roles: tuple[str, str], records: Path, tmp_path: Path
) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    cluster: dict[str, list[str]] = {}
    tasks = []
    for role, port in zip(roles, free_ports(2), strict=True):
        members = cluster.setdefault(role, [])
        tasks.append({"type": role, "index": len(members)})
        members.append(f"{host}:{port}")
    command = [
        *(sys.executable, "-m", "pipeline", "train", "--variant=shallow_0.35_32"),
        *("--recipe=demo", f"--records={records}", f"--workdir={tmp_path / 'run'}"),
        *("--set=training.batch_per_replica=16", "--set=training.total_images=64"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        running = []
        for task in tasks:
            patch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
            running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=900)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    progress = json.loads((tmp_path / "run" / "progress.json").read_text())
    assert progress["step"] == 2, "two replicas share 64 images"
