"""A full disk ends in one line and exit code 6, and no partial file looks complete.

The disk is real: a tmpfs of at most 2 MiB in a separate mount namespace.
"""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Outcome, mobilenet
from tests.pipeline.an_export import make_export
from tests.pipeline.cli.outcomes import refused

TRAIN = (
    "train",
    "--variant=shallow_0.35_32",
    "--recipe=demo",
    "--set=loop.steps_per_loop=1",
    "--set=loop.checkpoint_every_steps=1",
    "--set=training.batch_per_replica=8",
    "--set=training.total_images=24",
)


def on_a_small_disk(folder: Path, kibibytes: int, *arguments: str) -> Outcome:
    """Run `mobilenet` where `folder` is a disk of that size, and list on stdout what it left."""
    folder.mkdir(exist_ok=True)
    script = (
        f"mount -t tmpfs -o size={kibibytes}k tmpfs {shlex.quote(str(folder))} || exit 99\n"
        f"{shlex.quote(sys.executable)} -m pipeline {shlex.join(arguments)}\n"
        f"code=$?; find {shlex.quote(str(folder))} -type f; exit $code"
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_sample(tmp_path: Path) -> None:
    outcome = on_a_small_disk(tmp_path / "disk", 1024, "sample", f"--output={tmp_path}/disk/a")
    refused(outcome, 6, "no space left")
    assert outcome.out == ""


def test_prepare(archives: Path, tmp_path: Path) -> None:
    outcome = on_a_small_disk(
        tmp_path / "disk", 1024, "prepare", f"--source={archives}", f"--records={tmp_path}/disk/r"
    )
    refused(outcome, 6, "no space left", f"{tmp_path}/disk/r/")
    assert "dataset.json" not in outcome.out
    assert ".partial-" not in outcome.out


@pytest.mark.slow
def test_train(records: Path, tmp_path: Path) -> None:
    flags = (*TRAIN, f"--records={records}")
    outcome = on_a_small_disk(tmp_path / "disk", 512, *flags, f"--workdir={tmp_path}/disk/w")
    refused(outcome, 6, "no space left", "checkpoints/ckpt-1")
    assert "ckpt-1.index" not in outcome.out


@pytest.mark.slow
def test_export(records: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "workdir"
    trained = mobilenet(*TRAIN, f"--records={records}", f"--workdir={workdir}")
    assert trained.code == 0, trained.err
    outcome = on_a_small_disk(
        tmp_path / "disk",
        2048,
        "export",
        f"--workdir={workdir}",
        f"--records={records}",
        f"--output={tmp_path}/disk/e",
        "--int8-tolerance=1",
    )
    refused(outcome, 6, "no space left")
    assert outcome.out == ""


def test_publish(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e", flatbuffer=random.Random(0).randbytes(2 * 2**20))
    outcome = on_a_small_disk(
        tmp_path / "disk",
        1024,
        "publish",
        str(export),
        f"--to={tmp_path}/disk/p",
        f"--registry=sqlite:///{tmp_path}/mlflow.db",
    )
    refused(outcome, 6, "no space left", f"{tmp_path}/disk/p/")
    assert outcome.out == ""


def test_a_registry_on_a_full_disk(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e", flatbuffer=random.Random(0).randbytes(2 * 2**20))
    outcome = on_a_small_disk(
        tmp_path / "disk",
        2048,
        "publish",
        str(export),
        f"--to={tmp_path}/p",
        f"--registry=sqlite:///{tmp_path}/disk/mlflow.db",
    )
    refused(outcome, 6, "no space left")
    assert not (tmp_path / "p").exists()
