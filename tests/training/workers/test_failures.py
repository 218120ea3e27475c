"""A fault under a run is survived, or ends it in one line that names the file and the steps."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf

from preprocessing.errors import DataError, NonFiniteLossError, RetryError, UsageError
from preprocessing.records.schema import Manifest
from tests.training.faults import break_images, break_records
from tests.training.small_runs import StopAfter, config_of, job_of, run, tensors
from training.config.recipes import demo
from training.input.data import SINGLE_PROCESS, training_batches
from training.input.records import Readable, Records
from training.input.source import CachedRecords
from training.loop.actions.action import Action, Moment
from training.loop.loop import require_same_start, train
from training.models.variants import Variant
from training.workdir import recovery
from training.workdir.workdir import Workdir
from training.workers.cluster import Cluster
from training.workers.failures import explained
from training.workers.watchdog import StoppedError

pytestmark = pytest.mark.slow

FEW_STEPS = ("training.total_images=96", "loop.evaluate_every_steps=1000")


@pytest.fixture
def copied(records: Path, tmp_path: Path) -> Path:
    """Return a copy of the records that may be broken."""
    return Path(shutil.copytree(records, tmp_path / "records"))


def batch_of(records: Readable) -> list[tf.Tensor]:
    return next(
        iter(
            training_batches(
                records,
                demo(Variant.parse("shallow_0.35_32")).augmentation,
                size=32,
                seed=0,
                batch_per_replica=records.num_examples,
                share=SINGLE_PROCESS,
                start_step=0,
            )
        )
    )


def test_a_corrupt_record_ends_the_run_and_is_named_with_the_steps(
    copied: Path, tmp_path: Path
) -> None:
    (file,) = break_records(copied, 1)
    config = config_of("training.batch_per_replica=64", "training.total_images=1437")
    with pytest.raises(DataError, match=rf"corrupt record in steps \d+ to \d+: .*{file} at byte 0"):
        run(config, copied, tmp_path / "workdir")


def test_corrupt_records_are_replaced_counted_and_named_up_to_the_limit(
    copied: Path, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest.read(str(records))
    whole = batch_of(Records(str(records), manifest, "train"))
    files = break_records(copied, 2)
    for allowed in (2, 1):
        broken = Records(str(copied), manifest, "train", max_corrupt=allowed)
        batch = batch_of(broken)
        assert broken.corrupt == 2
        same = [bool(tf.reduce_all(a == b)) for a, b in zip(whole[0], batch[0], strict=True)]
        assert same.count(False) == 2  # the same images everywhere else, in the same order
        again = batch_of(broken)
        for first, second in zip(batch, again, strict=True):
            assert bool(tf.reduce_all(first == second))
        assert broken.corrupt == 2  # each once
        if allowed == 2:
            broken.raise_if_too_many_corrupt()
        else:
            with pytest.raises(DataError, match="2 corrupt records, more than the 1 that"):
                broken.raise_if_too_many_corrupt()
    printed = capsys.readouterr().err
    assert all(f"{file} at byte 0" in printed for file in files)


def test_an_image_that_cannot_be_decoded_ends_the_run_and_is_named(
    copied: Path, tmp_path: Path
) -> None:
    (key,) = break_images(copied, "train", [700])
    config = config_of("training.batch_per_replica=64", "training.total_images=1437")
    with pytest.raises(DataError) as refused:
        run(config, copied, tmp_path / "workdir")
    message = str(refused.value)
    assert re.match(r"image that cannot be decoded in steps \d+ to \d+: .*train-\d+-of-", message)
    for part in ("at byte ", f", {key} (", "--decode-check", "training.max_corrupt_records"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("cache", [False, True])
def test_images_that_cannot_be_decoded_are_replaced_and_counted_up_to_the_limit(
    cache: bool, copied: Path, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of them follow each other, and one is in the last record."""
    manifest = Manifest.read(str(records))
    whole = batch_of(Records(str(records), manifest, "train"))
    keys = break_images(copied, "train", [700, 701, 1436])
    for allowed in (3, 2):
        broken = Records(str(copied), manifest, "train", max_corrupt=allowed)
        batch = batch_of(CachedRecords(broken, 0) if cache else broken)
        same = [bool(tf.reduce_all(a == b)) for a, b in zip(whole[0], batch[0], strict=True)]
        assert same.count(False) == 3
        assert broken.corrupt == 3
        if allowed == 3:
            broken.raise_if_too_many_corrupt()
        else:
            with pytest.raises(DataError, match="3 corrupt records, more than the 2") as refused:
                broken.raise_if_too_many_corrupt()
            assert all(key in str(refused.value) for key in keys)
    printed = capsys.readouterr().err
    assert all(f", {key} (" in printed for key in keys)


def test_more_neighbours_than_allowed_end_the_run_with_their_names(
    copied: Path, tmp_path: Path
) -> None:
    keys = break_images(copied, "train", [700, 701, 702, 703, 704])
    config = config_of(
        *("training.batch_per_replica=64", "training.total_images=1437"),
        "training.max_corrupt_records=1",
    )
    with pytest.raises(DataError, match="corrupt records, more than the 1 that") as refused:
        run(config, copied, tmp_path / "workdir")
    assert sum(key in str(refused.value) for key in keys) >= 2


def test_a_validation_image_that_cannot_be_decoded_is_named(copied: Path, tmp_path: Path) -> None:
    (key,) = break_images(copied, "validation", [123])
    config = config_of("training.total_images=96", "loop.evaluate_every_steps=2")
    with pytest.raises(DataError, match=rf"image that cannot be decoded: .*, {key} \("):
        run(config, copied, tmp_path / "workdir")


def test_a_missing_shard_is_named_with_the_steps(copied: Path, tmp_path: Path) -> None:
    file = Manifest.read(str(copied)).shards["train"][0].file
    (copied / file).unlink()
    with pytest.raises(DataError, match=rf"a file vanished in steps 0 to 3: {copied / file}; No"):
        run(config_of(*FEW_STEPS), copied, tmp_path / "workdir")


class Vanish(Action):
    """An action that deletes the workdir after the first loop."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir

    def after_loop(self, moment: Moment) -> None:
        shutil.rmtree(self._workdir)


def test_a_workdir_that_vanishes_is_named(records: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "workdir"
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with pytest.raises((UsageError, OSError), match=str(workdir)):
        train(job_of(config_of(*FEW_STEPS), records, workdir), strategy, actions=[Vanish(workdir)])


def test_after_a_blow_up_it_goes_back_with_other_data_a_bounded_number_of_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ckpt-40.json").write_text("{}")
    workdir = Workdir(str(tmp_path))
    lost = NonFiniteLossError("the loss became nan between steps 45 and 50")
    assert recovery.data_seed(workdir, 7, 40) == 7
    for _ in range(2):
        retry = recovery.go_back(workdir, lost, 2, is_chief=True)
        assert isinstance(retry, RetryError)
        assert "going back to step 40" in capsys.readouterr().err
    assert recovery.go_back(workdir, lost, 2, is_chief=True) is lost
    seeds = {recovery.data_seed(workdir, 7, step) for step in (40, 60)}
    assert len(seeds) == 1
    assert recovery.data_seed(workdir, 7, 20) == 7  # what came before is as it was
    assert seeds != {7}


def test_stopped_at_any_step_and_continued_it_is_the_run_that_was_never_stopped(
    records: Path, tmp_path: Path
) -> None:
    """On one worker every bit is equal, also after a stop between two milestones."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    config = config_of("training.total_images=160", "loop.steps_per_loop=5")
    run(config, records, tmp_path / "whole")
    stops: list[int] = []
    job = job_of(config, records, tmp_path / "w")
    for calls in (0, 1):
        with pytest.raises(StoppedError) as stopped:
            train(job, strategy, watchdog=StopAfter(calls))
        stops.append(job.workdir.newest_checkpoint_step())
        assert f"the checkpoint of step {stops[-1]} is saved" in str(stopped.value)
    assert stops == sorted(set(stops))
    assert stops[0] == 1
    run(config, records, tmp_path / "w")
    ended = tensors(tmp_path / "w")
    for name, value in tensors(tmp_path / "whole").items():
        assert (value == ended[name]).all(), name


class OthersAtStep30:
    """Means over workers of which the others start elsewhere."""

    def means(self, mine: Sequence[float]) -> list[float]:
        return [30.0]


def test_workers_that_do_not_see_the_same_checkpoints_are_told(
    records: Path, tmp_path: Path
) -> None:
    job = dataclasses.replace(
        job_of(config_of(), records, tmp_path), cluster=Cluster(("a:1", "b:2"), 0)
    )
    with pytest.raises(UsageError, match="must be one storage that all of them see"):
        require_same_start(OthersAtStep30(), job, 0)


@pytest.mark.parametrize("has_peers", [False, True])
@pytest.mark.parametrize(
    ("kind", "message", "is_peer"),
    [
        (
            tf.errors.UnavailableError,
            "Error executing an HTTP request: libcurl code 7 meaning 'Couldn't connect to server'\n"
            "\t when reading metadata of gs://bucket/records/train-00000-of-00008",
            False,
        ),
        (tf.errors.AbortedError, "All 10 retry attempts failed: gs://bucket/records/x", False),
        (tf.errors.DeadlineExceededError, "Timeout when reading https://storage.test/x", False),
        (tf.errors.UnavailableError, "Connection reset by peer", True),
        (tf.errors.CancelledError, "RPC was cancelled", True),
    ],
)
def test_only_who_has_peers_can_lose_one_and_storage_is_none(
    kind: type[tf.errors.OpError], message: str, is_peer: bool, has_peers: bool
) -> None:
    with (
        pytest.raises(RetryError) as raised,
        explained("gs://bucket/records", has_peers=has_peers),
    ):
        raise kind(None, None, message)
    expected = "lost a peer: " if is_peer and has_peers else "the storage of gs://bucket/records "
    assert str(raised.value).startswith(expected)
    assert len(str(raised.value).splitlines()) == 1
