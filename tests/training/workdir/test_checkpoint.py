"""A checkpoint is used only if it is complete and equal to what was saved."""

from __future__ import annotations

import errno
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import DataError, NonFiniteLossError, StorageFullError, UsageError
from tests.emulator import Emulator
from training.workdir.checkpoint import Checkpoints
from training.workdir.checkpoint_files import read_checkpoint
from training.workdir.evaluations import Evaluation
from training.workdir.workdir import Workdir


class State:
    """The part of a training state that checkpoints know."""

    def __init__(self) -> None:
        self.weight = tf.Variable([1.0, 2.0])
        self.step = tf.Variable(0, dtype=tf.int64)

    def checkpointed(self) -> dict[str, dict[str, tf.Variable]]:
        return {"model": {"layer/weight": self.weight}, "optimizer": {"step": self.step}}


@pytest.fixture(params=["local", "bucket"])
def workdir(request: pytest.FixtureRequest, tmp_path: Path) -> Workdir:
    """Return a folder on disk, then one in a bucket."""
    if request.param == "local":
        folder = str(tmp_path)
    else:
        folder = f"{request.getfixturevalue('emulator').bucket}/run"
    workdir = Workdir(folder)
    storage.make_folder(workdir.checkpoints_folder)
    return workdir


def saved(workdir: Workdir, steps: int, keep: int = 10) -> Checkpoints:
    """Save checkpoints of steps 1 to `steps`, whose weights are the step."""
    state = State()
    checkpoints = Checkpoints(workdir, state, keep)
    for step in range(1, steps + 1):
        state.weight.assign([step, step])
        state.step.assign(step)
        checkpoints.save(step)
    checkpoints.wait()
    return checkpoints


def restored(workdir: Workdir) -> tuple[int | None, float]:
    state = State()
    found = Checkpoints(workdir, state, 1).restore()
    return found, float(state.weight.numpy()[0])


def damage(workdir: Workdir, name: str) -> None:
    """Change one byte in the middle of a file."""
    path = f"{workdir.checkpoints_folder}/{name}"
    content = bytearray(storage.read_bytes(path))
    content[len(content) // 2] ^= 1
    storage.write_bytes(path, bytes(content))


def test_what_was_saved_is_restored_and_the_newest_first(workdir: Workdir) -> None:
    assert restored(workdir) == (None, 1.0)
    saved(workdir, 3)
    assert restored(workdir) == (3, 3.0)
    assert sorted(read_checkpoint(workdir, 2)) == ["model/layer/weight", "optimizer/step"]


def test_step_0_is_a_step_too(workdir: Workdir) -> None:
    """Imported weights have no step."""
    checkpoints = Checkpoints(workdir, State(), 1)
    checkpoints.save(0)
    checkpoints.wait()
    assert restored(workdir) == (0, 1.0)


def test_what_is_saved_is_the_moment_of_saving(workdir: Workdir) -> None:
    state = State()
    checkpoints = Checkpoints(workdir, state, 1)
    checkpoints.save(7)
    state.weight.assign([9.0, 9.0])  # training goes on
    checkpoints.wait()
    assert restored(workdir) == (7, 1.0)


@pytest.mark.parametrize("part", ["data-00000-of-00001", "index", "json"])
def test_a_corrupt_newest_one_falls_back_aloud_to_the_one_before(
    workdir: Workdir, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(workdir, 3)
    damage(workdir, f"ckpt-3.{part}")
    assert restored(workdir) == (2, 2.0)
    printed = capsys.readouterr().err
    assert "ckpt-3" in printed
    assert "falling back to the checkpoint before it" in printed


def test_when_none_is_intact_it_does_not_start_over_silently(workdir: Workdir) -> None:
    saved(workdir, 2)
    for step in (1, 2):
        damage(workdir, f"ckpt-{step}.data-00000-of-00001")
    with pytest.raises(DataError, match=r"none of the 2 checkpoints in .* is intact"):
        restored(workdir)


def test_the_newest_few_stay_and_the_best(workdir: Workdir) -> None:
    for step, top1 in ((1, 0.1), (2, 0.9), (4, 0.3), (5, 0.2)):
        workdir.write_evaluation(Evaluation(step=step, top1=top1, top5=1.0))
    saved(workdir, 6, keep=2)
    assert workdir.checkpoint_steps() == [6, 5, 2]
    kept = {name.split(".")[0] for name in storage.list_names(workdir.checkpoints_folder)}
    assert kept == {"checkpoint", "ckpt-2", "ckpt-5", "ckpt-6"}


def test_a_writer_killed_before_the_last_file_leaves_nothing_that_counts(tmp_path: Path) -> None:
    storage.make_folder(f"{tmp_path}/checkpoints")
    saved(Workdir(str(tmp_path)), 2)
    (tmp_path / "checkpoints" / "ckpt-2.json").unlink()  # as if it had come to all but this
    leftover = tmp_path / "checkpoints" / ".ckpt-3.partial-1234"
    leftover.mkdir()
    assert restored(Workdir(str(tmp_path))) == (1, 1.0)
    saved(Workdir(str(tmp_path)), 3)
    assert not leftover.exists()


def test_tensorflows_own_tools_find_and_read_it(tmp_path: Path) -> None:
    storage.make_folder(f"{tmp_path}/checkpoints")
    saved(Workdir(str(tmp_path)), 2)
    newest = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    assert newest == str(tmp_path / "checkpoints" / "ckpt-2")
    value = tf.train.load_checkpoint(newest).get_tensor("model/layer/weight")
    np.testing.assert_array_equal(value, [2.0, 2.0])


def test_a_state_that_is_not_finite_is_not_saved(workdir: Workdir) -> None:
    state = State()
    state.weight.assign([np.inf, 0.0])
    with pytest.raises(NonFiniteLossError, match="model/layer/weight is not finite after step 4"):
        Checkpoints(workdir, state, 1).save(4)
    assert workdir.checkpoint_steps() == []


def test_a_folder_that_vanished_is_named_with_the_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}/checkpoints vanished .* step 1 "):
        saved(Workdir(str(tmp_path)), 1)


def test_a_bucket_that_vanished_is_named_with_the_step(emulator: Emulator) -> None:
    workdir = Workdir(f"{emulator.bucket}/run")
    checkpoints = saved(workdir, 1)
    storage.remove(workdir.path)
    name = emulator.bucket.removeprefix("gs://")
    request = urllib.request.Request(f"{emulator.url}/storage/v1/b/{name}", method="DELETE")
    urllib.request.urlopen(request, timeout=10).close()
    checkpoints.save(2)
    with pytest.raises(UsageError, match=f"{workdir}/checkpoints vanished .* step 2 "):
        checkpoints.wait()


def test_requests_that_fail_now_and_then_lose_nothing(flaky_emulator: Emulator) -> None:
    workdir = Workdir(f"{flaky_emulator.bucket}/run")
    saved(workdir, 4)
    assert flaky_emulator.faults.total() > 0
    assert workdir.checkpoint_steps() == [4, 3, 2, 1]
    assert restored(workdir) == (4, 4.0)


def test_a_full_bucket_is_named_with_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    storage.make_folder(f"{tmp_path}/checkpoints")
    monkeypatch.setattr(storage, "move_into", full)
    with pytest.raises(StorageFullError, match=r"checkpoints/ckpt-1: no space left .* step 1;"):
        saved(Workdir(str(tmp_path)), 1)


def test_another_networks_checkpoint_is_refused_with_the_first_difference(workdir: Workdir) -> None:
    saved(workdir, 1)
    other = State()
    other.weight = tf.Variable([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match=r"layer/weight \(2,\) \(expected \(3,\)\)"):
        Checkpoints(workdir, other, 1).restore()
