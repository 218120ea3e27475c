"""Two trainers never write into one workdir."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.storage import contracts
from preprocessing.storage.leases import Process
from training.workdir import lock
from training.workdir.checkpoint import Checkpoints
from training.workdir.lock import LEASE, exclusive, exclusive_between_machines
from training.workdir.workdir import Workdir

LEASE_SECONDS = 1.0


def hold(folder: str, held: threading.Event) -> None:
    with exclusive_between_machines(Workdir(folder), LEASE_SECONDS):
        held.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path: Path) -> multiprocessing.Process:  # type: ignore[misc]
    """Start another process that holds the lease on `tmp_path` and can be killed."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_chief_is_refused_and_told_where_the_first_is(
    holder: multiprocessing.Process, tmp_path: Path
) -> None:
    host = json.loads((tmp_path / LEASE).read_text())["host"]
    with (
        pytest.raises(UsageError, match=f"another process is training in .* on {host}"),
        exclusive_between_machines(Workdir(str(tmp_path)), LEASE_SECONDS),
    ):
        pass


def test_a_killed_holder_on_this_machine_is_followed_at_once(
    holder: multiprocessing.Process, tmp_path: Path
) -> None:
    holder.kill()
    holder.join()
    with exclusive_between_machines(Workdir(str(tmp_path)), 3600):
        pass
    assert not (tmp_path / LEASE).exists()


def test_a_lease_of_another_machine_that_lies_still_is_taken_over_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = {
        "holder": "x",
        "host": "gone",
        "process": {**contracts.to_json(Process.current()), "boot": "other"},
    }
    (tmp_path / LEASE).write_text(json.dumps({**lease, "renewals": 3}))
    with exclusive_between_machines(Workdir(str(tmp_path)), LEASE_SECONDS):
        assert json.loads((tmp_path / LEASE).read_text())["host"] != "gone"
    assert "of gone has lapsed; taking over" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["{tmp_path}", "memory://taken-over"])
def test_a_chief_that_was_away_writes_no_checkpoint_where_another_trains(
    folder: str, tmp_path: Path
) -> None:
    """Its own lease does not lapse here, as if it had come back and not yet looked."""
    workdir = Workdir(folder.format(tmp_path=tmp_path))
    storage.make_folder(workdir.checkpoints_folder)
    state = SimpleNamespace(checkpointed=lambda: {"model": {"weight": tf.Variable(1.0)}})
    checkpoints = Checkpoints(workdir, state, 1)
    with exclusive_between_machines(workdir, 3600):
        checkpoints.save(1)
        checkpoints.wait()
        before = storage.list_names(workdir.checkpoints_folder)
        lease = storage.read_json(workdir.file(LEASE))
        storage.write_json(workdir.file(LEASE), {**lease, "holder": "new", "host": "elsewhere"})
        checkpoints.save(2)
        with pytest.raises(UsageError, match="on elsewhere, took the workdir"):
            checkpoints.wait()
        assert storage.list_names(workdir.checkpoints_folder) == before
    assert storage.read_json(workdir.file(LEASE))["holder"] == "new"


def test_a_bucket_has_a_lease_too() -> None:
    with exclusive(Workdir("memory://leased")):
        assert lock.storage.exists(f"memory://leased/{LEASE}")
    assert not lock.storage.exists(f"memory://leased/{LEASE}")


def test_a_local_folder_is_refused_to_a_second_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_TIMEOUT_SECONDS", 0.1)
    with exclusive(Workdir(str(tmp_path))):
        second = exclusive(Workdir(str(tmp_path)))
        with pytest.raises(UsageError, match="another process is training in"):
            second.__enter__()
