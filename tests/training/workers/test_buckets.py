"""Local workers train in a bucket as they do in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from preprocessing import storage
from tests.conftest import mobilenet
from tests.emulator import Emulator
from training.workdir.checkpoint_files import read_checkpoint
from training.workdir.workdir import Workdir

SMALL = (
    "training.batch_per_replica=16",
    "training.total_images=384",  # 12 steps of two replicas
    "loop.steps_per_loop=3",
    "loop.checkpoint_every_steps=3",
    "loop.evaluate_every_steps=12",
)


@pytest.mark.slow
def test_two_workers_in_a_bucket_killed_and_repeated_are_those_on_disk(
    records: Path, emulator: Emulator, tmp_path: Path
) -> None:
    command = [
        *("train", "--variant=mobilenet_v2_0.35_32", "--recipe=demo", "--workers=2"),
        f"--records={records}",
        *(f"--set={assignment}" for assignment in SMALL),
    ]
    here, there = Workdir(str(tmp_path / "run")), Workdir(f"{emulator.bucket}/run")
    local = mobilenet(*command, f"--workdir={here}")
    assert local.code == 0, local.err
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command, f"--workdir={there}"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as first:
        while first.poll() is None and not there.checkpoint_steps():
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
    again = mobilenet(*command, f"--workdir={there}")
    assert again.code == 0, again.err
    assert again.result["step"] == local.result["step"] == 12
    expected, trained = read_checkpoint(here, 12), read_checkpoint(there, 12)
    assert expected.keys() == trained.keys()
    for name in expected:
        assert np.array_equal(expected[name], trained[name]), name
    assert not storage.exists(there.file(".lease.json"))
