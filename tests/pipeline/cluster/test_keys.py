"""The keys of a kubeconfig touch no disk, and those of a killed process do not stay."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

KEY = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
PROGRAM = """
import sys
from pipeline.cluster.api.gateway import Gateway
gateway = Gateway("mobilenet")
gateway.reconnect()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    data = base64.b64encode(KEY.encode()).decode()
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {
                            "server": "https://127.0.0.1:1",
                            "insecure-skip-tls-verify": True,
                        },
                    }
                ],
                "users": [{"name": "u", "user": {"client-key-data": data}}],
            }
        )
    )
    return path


def start(kubeconfig: Path, disk: Path, memory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "TMPDIR": str(disk),
            "XDG_RUNTIME_DIR": str(memory),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def keys_in(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]


def test_keys_are_in_memory_and_go_with_their_process_however_it_ends(
    kubeconfig: Path, tmp_path: Path
) -> None:
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    disk.mkdir()
    memory.mkdir()
    killed = start(kubeconfig, disk, memory)
    assert keys_in(memory) == [KEY]
    (folder,) = memory.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    killed.kill()
    killed.wait()
    regular = start(kubeconfig, disk, memory)
    assert keys_in(memory) == [KEY], "the key of the process that was killed is gone"
    assert not folder.exists()
    regular.communicate(timeout=60)
    assert regular.returncode == 0
    assert not list(memory.iterdir())
    assert not keys_in(disk)
