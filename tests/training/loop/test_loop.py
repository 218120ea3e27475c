"""A run ends where its config says, continues where it stopped and refuses to become another."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import NonFiniteLossError, UsageError
from tests.shallow_family import NORMALISED
from tests.training.small_runs import config_of, run, tensors
from training.config import override_all
from training.config.recipes import published
from training.models.variants import Variant
from training.workdir.workdir import Workdir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "workdir"
    progress = run(config_of(), records, workdir)
    assert (progress.step, progress.complete) == (12, True)
    return workdir


def test_a_run_leaves_config_checkpoints_events_and_progress(finished: Path) -> None:
    assert Workdir(str(finished)).read_run().config == config_of()
    assert Workdir(str(finished)).read_progress().step == 12
    kept = {path.stem.split(".")[0] for path in (finished / "checkpoints").glob("ckpt-*")}
    assert kept == {"ckpt-6", "ckpt-12"}


def test_tensorboard_gets_loss_rate_accuracy_speed_and_images(finished: Path) -> None:
    seen: dict[str, int] = {}
    for path in (finished / "tensorboard").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                seen[value.tag] = max(seen.get(value.tag, 0), event.step)
    every_loop = {
        f"train/{name}"
        for name in ("loss", "regularization", "total_loss", "top1", "learning_rate", "epoch")
    } | {"speed/images_per_second", "speed/milliseconds_per_step"}
    every_evaluation = {
        *(f"{kind}/top{k}" for kind in ("validation", "validation_raw") for k in (1, 5)),
        "confusion",
        "most_confidently_wrong",
    }
    at_start = {
        "augmented_images",
        "config",
        "_hparams_/experiment",
        "_hparams_/session_start_info",
    }
    histograms = {"weights/Conv", "bn_gamma/Conv_BatchNorm", "memory/host_peak_gib"}
    assert {name: seen.get(name) for name in every_loop | every_evaluation} == dict.fromkeys(
        every_loop | every_evaluation, 12
    )
    assert {name: seen.get(name) for name in at_start} == dict.fromkeys(at_start, 0)
    assert {seen.get(name) for name in histograms} == {12}


def test_a_run_continued_from_a_checkpoint_is_the_run_that_was_never_stopped(
    finished: Path, records: Path, tmp_path: Path
) -> None:
    """On one worker, weights, slots and averages are equal bit for bit."""
    workdir = tmp_path / "workdir"
    shutil.copytree(finished, workdir)
    for path in (workdir / "checkpoints").glob("ckpt-12.*"):
        path.unlink()
    (workdir / "progress.json").unlink()
    assert run(config_of(), records, workdir).step == 12
    resumed, original = tensors(workdir), tensors(finished)
    assert resumed.keys() == original.keys()
    model, trainable = 5 * NORMALISED + 2, 3 * NORMALISED + 2
    assert len(original) == 2 * model + 1 + 2 * trainable  # model, averages, step, slots
    for name, value in original.items():
        assert np.array_equal(value, resumed[name]), name


def test_a_kill_between_the_last_checkpoint_and_the_last_report_is_no_obstacle(
    finished: Path, records: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "workdir"
    shutil.copytree(finished, workdir)
    before = Workdir(str(finished)).read_progress()
    Workdir(str(workdir)).write_progress(dataclasses.replace(before, step=9, complete=False))
    progress = run(config_of(), records, workdir)
    assert (progress.step, progress.complete) == (12, True)
    assert progress.validation == before.validation
    assert Workdir(str(workdir)).newest_checkpoint_step() == 12


def test_how_often_the_host_looks_in_does_not_change_the_result(
    finished: Path, records: Path, tmp_path: Path
) -> None:
    run(config_of("loop.steps_per_loop=12", "loop.evaluate_every_steps=100"), records, tmp_path)
    original = tensors(finished)
    for name, value in tensors(tmp_path).items():
        np.testing.assert_allclose(value, original[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_another_config_is_refused_with_the_difference(finished: Path, records: Path) -> None:
    with pytest.raises(UsageError, match=r"optimizer\.momentum 0\.9 \(now 0\.8\)"):
        run(config_of("optimizer.momentum=0.8"), records, finished)


def test_a_folder_with_something_else_in_it_is_refused(records: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"holds thesis\.tex and no run"):
        run(config_of(), records, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_steps(
    records: Path, tmp_path: Path
) -> None:
    config = config_of("optimizer.learning_rate_per_replica=1e30", "training.batch_per_replica=4")
    with pytest.raises(NonFiniteLossError, match=r"between steps \d+ and \d+"):
        run(config, records, tmp_path)
    assert not Workdir(str(tmp_path)).read_progress().complete


def test_the_published_recipe_trains_any_variant(records: Path, tmp_path: Path) -> None:
    config = override_all(
        published(Variant.parse("mobilenet_v2_0.5_96")),
        ("training.total_images=16", "training.batch_per_replica=8"),
    )
    assert run(config, records, tmp_path).step == 2
