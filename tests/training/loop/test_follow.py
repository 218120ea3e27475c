"""Evaluation in another process sees every checkpoint that it can, and a profile can be opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tensorflow as tf

from preprocessing import storage
from preprocessing.records.schema import Manifest
from tests.training.small_runs import config_of, job_of
from training.loop.follow import follow
from training.loop.loop import train

pytestmark = pytest.mark.slow


def test_a_run_that_does_not_evaluate_is_evaluated_beside_it(records: Path, tmp_path: Path) -> None:
    config = config_of(
        "training.total_images=96",  # 6 steps
        "loop.checkpoint_every_steps=3",
        "loop.evaluate_every_steps=1000",
    )
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    job = dataclasses.replace(job_of(config, records, tmp_path), profile_steps=1)
    progress = train(job, strategy)
    trace = list((tmp_path / "tensorboard" / "plugins" / "profile").glob("*/*.xplane.pb"))
    assert len(trace) == 1
    assert b"step_num" in trace[0].read_bytes()  # or the page knows no steps
    path = Path(job.workdir.evaluation_file(6))
    mine = storage.read_json(str(path))
    path.unlink()
    result = follow(job.workdir, str(records), Manifest.read(str(records)))
    assert progress.validation is not None
    expected = {"step": 6, "top1": progress.validation.top1, "top5": mine["top5"]}
    assert result is not None
    assert result.to_json() == expected
    assert storage.read_json(str(path)) == mine
    assert list((tmp_path / "tensorboard" / "follow").glob("events*"))
