"""The curves of an export are those of TensorBoard, however often the run was resumed."""

from __future__ import annotations

from pathlib import Path

from pipeline.export import history
from training.monitoring.summaries import Summaries
from training.workdir.workdir import Workdir


def test_a_resumed_run_has_one_point_per_step_and_the_later_one_counts(tmp_path: Path) -> None:
    logdir, export = tmp_path / "run" / "tensorboard", tmp_path / "export"
    export.mkdir()
    first = Summaries(str(logdir), enabled=True)
    for step, loss in ((10, 3.0), (20, 2.0)):
        first.scalars(step, {"train/loss": loss})
    events = next(iter(logdir.iterdir()))
    events.write_bytes(events.read_bytes()[:-5])  # killed while it wrote step 20
    second = Summaries(str(logdir), enabled=True)
    for step, loss in ((10, 2.5), (20, 1.5), (30, 1.0)):
        second.scalars(step, {"train/loss": loss, "validation/top1": loss / 10})
    history.write(str(export), Workdir(str(tmp_path / "run")))
    curves = history.read(str(export))
    assert [point[:2] for point in curves["train/loss"]] == [[10, 2.5], [20, 1.5], [30, 1.0]]
    assert set(curves) == {"train/loss", "validation/top1"}


def test_an_imported_run_has_none(tmp_path: Path) -> None:
    history.write(str(tmp_path), Workdir(str(tmp_path / "run")))
    assert history.read(str(tmp_path)) == {}
