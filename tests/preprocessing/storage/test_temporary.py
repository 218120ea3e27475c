"""Temporary folders vanish, also those of processes that could not clean up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from preprocessing import storage
with storage.temporary_folder(sys.argv[1]) as folder:
    open(f"{folder}/content", "w").close()
    print(folder, flush=True)
    if sys.argv[2] == "wait":
        time.sleep(60)
"""


def start(purpose: str, mode: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, purpose, mode],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("purpose", ["plan", "upload", "export"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, purpose: str) -> None:
    with start(purpose, "wait", tmp_path) as killed, start(purpose, "wait", tmp_path) as living:
        assert killed.stdout
        assert living.stdout
        left, used = killed.stdout.readline().strip(), living.stdout.readline().strip()
        killed.kill()
        killed.wait()
        assert os.path.exists(left)
        foreign = tmp_path / "mobilenet-plan-of-somebody"
        foreign.mkdir()
        with start(purpose, "end", tmp_path) as last:
            last.wait()
        assert not os.path.exists(left)
        assert os.listdir(used) == ["content"]
        assert foreign.exists()
        living.kill()
