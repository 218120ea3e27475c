"""To wait for the other workers in vain, or to be refused, is no attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local.processes import free_ports
from preprocessing import storage
from tests.conftest import mobilenet
from training.workdir.attempts import FILE

pytestmark = pytest.mark.slow


def command(records: Path, workdir: Path, *more: str) -> list[str]:
    """Return the command line of a run of one step that may be attempted once."""
    return [
        *("train", "--variant=shallow_0.35_32", "--recipe=demo"),
        *(f"--records={records}", f"--workdir={workdir}"),
        *("--set=training.batch_per_replica=16", "--set=training.total_images=16"),
        *("--set=loop.max_attempts=1", *more),
    ]


def test_waiting_in_vain_uses_up_no_attempt(records: Path, tmp_path: Path) -> None:
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}
    waiting = command(records, tmp_path / "run", "--set=loop.startup_timeout_seconds=1")
    for _ in range(2):
        alone = mobilenet(*waiting, TF_CONFIG=json.dumps(cluster))
        assert alone.code == 143, alone.err
        assert f"worker 1 ({workers[1]}) did not come" in alone.err
    assert not (tmp_path / "run" / FILE).exists()


def test_a_worker_that_waits_while_others_complete_the_run_ends_and_then_finds_it_done(
    records: Path, tmp_path: Path
) -> None:
    run = command(records, tmp_path / "run", "--set=loop.startup_timeout_seconds=100")
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *run],
        env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        trained = mobilenet(*run)
        assert trained.code == 0, trained.err
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 143, err
    assert "was completed while this worker waited" in err
    again = mobilenet(*run, TF_CONFIG=json.dumps(cluster))
    assert again.code == 0, again.err


def test_a_refused_command_uses_up_no_attempt(records: Path, tmp_path: Path) -> None:
    trained = mobilenet(*command(records, tmp_path / "run"))
    assert trained.code == 0, trained.err
    before = storage.read_json(str(tmp_path / "run" / FILE))["attempts"]
    refused = mobilenet(*command(records, tmp_path / "run", "--set=model.dropout=0.5"))
    assert refused.code == 2, refused.err
    assert storage.read_json(str(tmp_path / "run" / FILE))["attempts"] == before
