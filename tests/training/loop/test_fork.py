"""A fork goes on from another run's checkpoint, and is that run if nothing else changed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import UsageError
from tests.training.small_runs import StopAfter, config_of, job_of, run, tensors
from training.config import RunConfig
from training.loop.loop import train
from training.workdir.progress import Progress
from training.workdir.workdir import Workdir
from training.workers.watchdog import StoppedError, Watchdog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "workdir"
    run(config_of(), records, workdir)
    return workdir


@pytest.fixture(scope="module")
def half(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run as it was at step 6 of 12."""
    workdir = tmp_path_factory.mktemp("half") / "workdir"
    shutil.copytree(finished, workdir)
    for path in (workdir / "checkpoints").glob("ckpt-12.*"):
        path.unlink()
    (workdir / "progress.json").unlink()
    return workdir


def fork(
    config: RunConfig,
    records: Path,
    origin: Path,
    workdir: Path,
    watchdog: Watchdog | None = None,
) -> Progress:
    job = dataclasses.replace(job_of(config, records, workdir), fork=str(origin))
    return train(job, tf.distribute.OneDeviceStrategy("CPU:0"), watchdog=watchdog)


def test_a_fork_with_the_same_settings_is_the_run_itself(
    finished: Path, half: Path, records: Path, tmp_path: Path
) -> None:
    assert fork(config_of(), records, half, tmp_path / "fork").step == 12
    forked, original = tensors(tmp_path / "fork"), tensors(finished)
    assert forked.keys() == original.keys()
    for name, value in original.items():
        assert np.array_equal(value, forked[name]), name
    assert Workdir(str(tmp_path / "fork")).read_run().fork is not None


def test_a_fork_with_other_settings_keeps_them_and_its_start_whatever_happens(
    finished: Path, half: Path, records: Path, tmp_path: Path
) -> None:
    """It is stopped, and the other run goes on meanwhile; the result is the undisturbed one."""
    config = config_of("optimizer.momentum=0.5")
    fork(config, records, half, tmp_path / "undisturbed")
    moving = tmp_path / "moving"
    shutil.copytree(half, moving)
    with pytest.raises(StoppedError):
        fork(config, records, moving, tmp_path / "fork", StopAfter(1))
    shutil.copytree(finished, moving, dirs_exist_ok=True)
    fork(config, records, moving, tmp_path / "fork")
    disturbed, undisturbed = tensors(tmp_path / "fork"), tensors(tmp_path / "undisturbed")
    for name, value in undisturbed.items():
        np.testing.assert_array_equal(value, disturbed[name], err_msg=name)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(undisturbed, tensors(finished))


def test_a_run_with_other_settings_is_refused_with_the_two_ways_out(
    finished: Path, records: Path
) -> None:
    with pytest.raises(UsageError, match=r"choose another --workdir.*--workdir NEW --fork "):
        run(config_of("optimizer.momentum=0.5"), records, finished)


def test_a_fork_that_cannot_be_is_refused(half: Path, records: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no training run"):
        fork(config_of(), records, tmp_path / "nothing", tmp_path / "fork")
    with pytest.raises(UsageError, match="the --workdir itself"):
        fork(config_of(), records, half / ".." / half.name, half)
    with pytest.raises(UsageError, match="this run ends at step 5; make it longer"):
        fork(config_of("training.total_images=80"), records, half, tmp_path / "fork")
    with pytest.raises(UsageError, match=r"holds shallow_0\.35_32 .* --initial-checkpoint"):
        fork(config_of("variant=shallow_1.0_32"), records, half, tmp_path / "fork")
    assert not (tmp_path / "fork").exists()
