"""TensorBoard gets the event files of all runs, and nothing else is asked of a bucket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.local.event_files import EventFiles
from preprocessing import storage
from tests.conftest import mobilenet
from tests.emulator import Emulator
from tests.pipeline.cli.outcomes import refused
from training.workdir.workdir import Workdir

RUNS = 22
CHECKPOINTS = 5


def write_runs(folder: str, count: int = RUNS) -> None:
    """Write runs with events, some of which lie deeper, and with checkpoints."""
    for number in range(count):
        run = storage.join(folder, f"run-{number:02d}")
        for name in ("events.out.tfevents.1", "plugins/profile/1/trace"):
            path = storage.join(Workdir(run).tensorboard_folder, name)
            storage.make_folder(os.path.dirname(path))
            storage.write_bytes(path, f"{name} of {number}".encode())
        for step in range(CHECKPOINTS):
            path = storage.join(run, "checkpoints", f"ckpt-{step}.json")
            storage.make_folder(os.path.dirname(path))
            storage.write_bytes(path, b"{}")


def contents(folder: str) -> dict[str, bytes]:
    return {
        os.path.relpath(os.path.join(parent, name), folder): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


@pytest.mark.parametrize("medium", ["disk", "bucket"])
def test_the_copy_has_the_events_of_every_run_under_its_name(
    medium: str, tmp_path: Path, emulator: Emulator
) -> None:
    runs = str(tmp_path / "runs") if medium == "disk" else f"{emulator.bucket}/runs"
    write_runs(runs, 3)
    copy = tmp_path / "copy"
    copy.mkdir()
    events = EventFiles(runs, str(copy))
    assert events.refresh() == ["run-00", "run-01", "run-02"]
    assert contents(events.logdir) == {
        f"run-{number:02d}/{name}": f"{name} of {number}".encode()
        for number in range(3)
        for name in ("events.out.tfevents.1", "plugins/profile/1/trace")
    }
    write_runs(runs, 4)
    assert events.refresh()[-1] == "run-03"
    assert len(contents(events.logdir)) == 8


@pytest.mark.parametrize("medium", ["disk", "bucket"])
def test_a_single_run_has_its_name_too(medium: str, tmp_path: Path, emulator: Emulator) -> None:
    runs = str(tmp_path / "runs") if medium == "disk" else f"{emulator.bucket}/runs"
    write_runs(runs, 1)
    copy = tmp_path / "copy"
    copy.mkdir()
    for run in ("run-00", "run-00/"):
        events = EventFiles(storage.join(runs, run), str(copy))
        assert events.refresh() == ["run-00"]
        assert {*contents(events.logdir)} == {
            f"run-00/{name}" for name in ("events.out.tfevents.1", "plugins/profile/1/trace")
        }


def test_a_refresh_asks_once_per_folder_of_events_and_fetches_what_is_new(
    tmp_path: Path, emulator: Emulator
) -> None:
    runs = f"{emulator.bucket}/runs"
    write_runs(runs)
    events = EventFiles(runs, str(tmp_path))
    events.refresh()
    grown = storage.join(runs, "run-07", "tensorboard", "events.out.tfevents.1")
    shorter = storage.join(runs, "run-08", "tensorboard", "events.out.tfevents.1")
    before = storage.read_bytes(grown)
    storage.write_bytes(grown, before + b" and more")
    storage.write_bytes(shorter, b"short")
    asked = len(emulator.requests)
    events.refresh()
    paths = [path for _, path in emulator.requests[asked:]]
    assert not [path for path in paths if "checkpoints" in path]
    # Each run has four folders here; a run without a profile has one.
    assert len(paths) <= 1 + 4 * RUNS + 2
    assert (tmp_path / "run-07/events.out.tfevents.1").read_bytes() == before + b" and more"
    assert (tmp_path / "run-08/events.out.tfevents.1").read_bytes() == b"short"
    fetched = [path for path in paths if "alt=media" in path or "/o/" in path]
    assert len(fetched) == 2


def test_a_folder_without_events_is_refused_unless_it_may_wait(tmp_path: Path) -> None:
    refused(mobilenet("dashboard", tmp_path / "nowhere"), 2, "has no events yet", "--wait")
