"""An export that was interrupted or refused goes on, and ends as if it had not been."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.random_networks import write_digits, write_run
from benchmarks.records import write_records
from pipeline.export import directory, exporter, stages, unfinished
from pipeline.export.conversion import tflite
from pipeline.export.exporter import export
from pipeline.export.job import CHUNK
from pipeline.export.predictions import DisagreementError
from pipeline.export.unfinished import Unfinished
from preprocessing import limits, storage
from preprocessing.errors import CheckFailedError, UsageError
from tests.conftest import mobilenet
from tests.emulator import Emulator
from tests.pipeline.conftest import VARIANT, Exported
from tests.sessions import wait_until_gone
from training.input.records import Records

MANY = (stages.FEW_CHUNKS + 2) * CHUNK + 30  # so many images that other processes compare them


def same_files(a: Path, b: Path) -> bool:
    """Return whether two exports have the same files, byte for byte."""
    digests = [directory.file_digests(str(folder)) for folder in (a, b)]
    return digests[0] == digests[1]


def disagree(*arguments: object, **options: object) -> None:
    """Refuse any format."""
    raise DisagreementError("it disagrees, as it happens", "tflite_int8", [3])


def test_a_refused_export_converts_and_compares_nothing_again(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "e"
    with monkeypatch.context() as refusing:
        refusing.setattr(exporter, "require_within", disagree)
        with pytest.raises(CheckFailedError, match="as it happens"):
            export(exported.what, str(output))
    assert not output.exists()

    def fail(*arguments: object) -> None:
        raise AssertionError("it was converted")

    monkeypatch.setattr(tflite, "convert", fail)
    monkeypatch.setattr(stages, "_compare", fail)
    metrics = export(exported.what, str(output))
    directory.require_intact(str(output), metrics)
    assert metrics.formats == exported.metrics.formats
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "e.worst.png"]


def test_what_belongs_to_another_export_or_was_changed_is_not_kept(tmp_path: Path) -> None:
    kept = Unfinished(str(tmp_path), None)
    kept.require_identity({"weights": "a"})
    for name in ("x.tflite", "saved_model/a", "saved_model/b"):
        path = os.path.join(kept.export, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        storage.write_bytes(path, name.encode())
    kept.finish("x.tflite")
    kept.finish("saved_model")
    kept.write_chunk(3, b"predictions")
    kept.require_identity({"weights": "a"})
    assert kept.is_finished("x.tflite")
    assert kept.is_finished("saved_model")
    assert not kept.is_finished("y.tflite")
    assert (kept.chunk_numbers(), kept.read_chunk(3)) == ([3], b"predictions")

    storage.write_bytes(os.path.join(kept.export, "saved_model/b"), b"other")
    os.unlink(os.path.join(kept.export, "x.tflite"))
    assert not kept.is_finished("saved_model")
    assert not kept.is_finished("x.tflite")
    kept.require_identity({"weights": "b"})
    assert kept.chunk_numbers() == []
    assert os.listdir(kept.export) == []


def test_what_is_finished_is_kept_beside_an_output_in_a_bucket(emulator: Emulator) -> None:
    """Another machine continues, because the first one's disk is gone with its pod."""
    output = f"{emulator.bucket}/exports/e"
    with unfinished.lock(output), unfinished.unfinished(output) as killed_at_once:
        killed_at_once.require_identity({"weights": "a"})
    with unfinished.lock(output), unfinished.unfinished(output) as first:
        first.require_identity({"weights": "a"})
        assert os.listdir(first.export) == []
        os.makedirs(os.path.join(first.export, "saved_model"))
        storage.write_bytes(os.path.join(first.export, "saved_model", "pb"), b"graph")
        first.finish("saved_model")
        first.write_chunk(12, b"predictions")
    assert not os.path.exists(first.folder)
    with unfinished.lock(output), unfinished.unfinished(output) as second:
        second.require_identity({"weights": "a"})
        assert second.is_finished("saved_model")
        assert second.read_chunk(12) == b"predictions"
        second.require_identity({"weights": "b"})
    with unfinished.lock(output), unfinished.unfinished(output) as third:
        assert third.chunk_numbers() == []
        unfinished.remove(output)
    assert storage.list_names(f"{emulator.bucket}/exports") == []


@pytest.mark.parametrize(
    ("cores", "gibibytes", "workers"), [(1, 8, 1), (2, 8, 2), (2, 4.3, 2), (64, 8, 3), (64, 1, 1)]
)
def test_cores_and_memory_bound_the_processes(
    monkeypatch: pytest.MonkeyPatch, cores: int, gibibytes: float, workers: int
) -> None:
    monkeypatch.setattr(limits, "num_cores", lambda: cores)
    monkeypatch.setattr(limits, "memory_bytes", lambda: int(gibibytes * 2**30))
    assert stages.useful_workers(num_chunks=500) == workers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("tflite_int9",)}, "did you mean 'tflite_int8'"),
        ({"int8_tolerance": -0.01}, "from 0 to 1 instead of -0.01"),
        ({"int8_tolerance": 2.0}, "from 0 to 1 instead of 2.0"),
        ({"validation_images": 0}, "compare on 1 to 40 of them instead of 0"),
        ({"validation_images": 41}, "compare on 1 to 40 of them instead of 41"),
    ],
)
def test_an_impossible_order_is_refused(
    exported: Exported, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(exported.what, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run, and records whose validation images many processes compare."""
    folder = tmp_path_factory.mktemp("many")
    manifest = write_digits(folder / "digits", num_classes=10, train=60, validation=40)
    split = Records(str(folder / "digits"), manifest, "train")
    images = [tuple(value.numpy() for value in split.read(index)) for index in range(60)]
    splits = {"train": images, "validation": [images[i % 60] for i in range(MANY)]}
    manifest = write_records(str(folder / "records"), splits, 10)
    write_run(folder / "run", VARIANT, folder / "records", manifest)
    return folder


def command(many: Path, output: Path, *flags: str) -> list[str]:
    """Return the command line of an export of two formats."""
    return [
        *(sys.executable, "-m", "pipeline", "export", f"--workdir={many}/run"),
        *(f"--records={many}/records", f"--output={output}", "--formats=saved_model,frozen_graph"),
        *flags,
    ]


@pytest.fixture(scope="module")
def uninterrupted(many: Path) -> Path:
    subprocess.run(command(many, many / "whole"), check=True)
    return many / "whole"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "count"),
    [("finished.json", 1), ("comparison/*.npz", 4)],
)
def test_an_export_that_was_killed_ends_as_if_it_had_not_been(
    many: Path, uninterrupted: Path, tmp_path: Path, pattern: str, count: int
) -> None:
    output = tmp_path / "e"
    with subprocess.Popen(command(many, output), start_new_session=True) as running:
        for _ in waits():
            if len(list(tmp_path.glob(f"e{unfinished.SUFFIX}/{pattern}"))) >= count:
                break
        running.kill()
    wait_until_gone(running.pid)
    assert not output.exists()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    again = subprocess.run(command(many, output), stderr=subprocess.PIPE, text=True, check=True)
    assert "export: SavedModel, which is finished already" in again.stderr
    assert same_files(output, uninterrupted)
    assert len(kept) >= (count if "npz" in pattern else 0)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


@pytest.mark.slow
def test_of_two_equal_exports_at_once_one_works_and_the_other_waits(
    many: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    both = [
        subprocess.Popen(command(many, tmp_path / "e"), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("nothing to do" in text for text in said) == [False, True]
    assert sorted("waiting for it" in text for text in said) == [False, True]
    assert same_files(tmp_path / "e", uninterrupted)


@pytest.mark.slow
def test_a_sample_is_said_to_be_one_and_never_published(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "e"
    subprocess.run(command(many, output, "--validation-images=130"), check=True)
    metrics = directory.read_metrics(str(output))
    assert metrics.sample
    assert (metrics.sample.images, metrics.sample.of) == (130, MANY)
    assert {figures.examples for figures in metrics.formats.values()} == {130}
    assert {*metrics.formats} == {"checkpoint", "saved_model", "frozen_graph"}
    for name in ("publish", "register"):
        outcome = mobilenet(name, output, f"--registry=sqlite:///{tmp_path}/mlflow.db")
        assert outcome.code == 2
        assert f"was compared on 130 of {MANY} validation images" in outcome.err
    reported = mobilenet("report", output, f"--records={many}/records", f"--output={tmp_path}/r")
    assert reported.code == 0, reported.err


def waits(seconds: float = 240) -> Iterator[None]:
    """Yield again and again until the time is over, which is an error."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)
    raise TimeoutError
