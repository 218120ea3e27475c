"""Nothing is published that differs from what was measured, or is worse than the champion."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.publish import gate
from pipeline.publish.registry_client import Version
from preprocessing.errors import CheckFailedError, DataError
from tests.pipeline.an_export import VARIANT, make_export, metrics_of, write_metrics


def version(top1: float) -> Version:
    return Version(
        model=VARIANT,
        version=3,
        run_id="run",
        export_digest="d",
        top1=top1,
        records_digest="r" * 64,
    )


def test_an_export_as_it_was_measured_passes(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    gate.require_measured(str(export), metrics_of(export))


@pytest.mark.parametrize("change", ["changed", "new", "missing"])
def test_an_export_that_is_not_what_was_measured_is_refused(change: str, tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    flatbuffer = export / f"{VARIANT}.tflite"
    if change == "changed":
        flatbuffer.write_bytes(b"flatbuffeR")
    elif change == "new":
        flatbuffer = export / "other.tflite"
        flatbuffer.write_bytes(b"")
    else:
        flatbuffer.unlink()
    with pytest.raises(DataError, match=f"{flatbuffer.name} changed"):
        gate.require_measured(str(export), metrics_of(export))


def test_a_copy_without_its_times_passes(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    measured_ns = (export / "metrics.json").stat().st_mtime_ns
    os.utime(export / f"{VARIANT}.tflite", ns=(measured_ns, measured_ns + 3_000_000_000))
    gate.require_measured(str(export), metrics_of(export))


def test_below_the_champion_only_by_force(tmp_path: Path) -> None:
    metrics = metrics_of(make_export(tmp_path / "e", top1=0.90))
    with pytest.raises(CheckFailedError, match=r"0\.9000 is below 0\.9100 .*version 3, records r"):
        gate.require_champion(metrics, version(0.91), force=False)
    gate.require_champion(metrics, version(0.91), force=True)
    gate.require_champion(metrics, version(0.90), force=False)
    gate.require_champion(metrics, None, force=False)


def test_publish_says_why_not_and_the_alias_follows_what_is_published(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command publishes a better model, refuses a worse one, and obeys force."""
    published = tmp_path / "published"
    better, worse = (make_export(tmp_path / f"{top1}", top1=top1) for top1 in (0.95, 0.90))
    options = [f"--to={published}", f"--registry={uri}"]
    assert main(["publish", str(better), *options]) == 0
    before = (published / "index.json").read_bytes()
    capsys.readouterr()
    assert main(["publish", str(worse), *options, "--overwrite"]) == 5
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith(
        f"mobilenet: {VARIANT}: top-1 0.9000 is below 0.9500 of the champion on the same records "
        "(version 1, records rrrrrrrr, 100 validation images)"
    )
    assert (published / "index.json").read_bytes() == before
    aliases = aliases_in(uri)
    assert aliases == {"champion": 1, ON_RECORDS: 1, "published": 1}
    assert main(["publish", str(worse), *options, "--overwrite", "--force"]) == 0
    assert aliases_in(uri) == {"champion": 1, ON_RECORDS: 1, "published": 2}


def test_a_champion_is_the_best_on_its_own_records(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A toy with a perfect score neither becomes the champion nor keeps others from publishing."""
    options = [f"--registry={uri}", "--overwrite"]
    toy = change_export(make_export(tmp_path / "toy", top1=1.0), "t" * 64, examples=2)
    real = make_export(tmp_path / "real", top1=0.9)
    small = change_export(make_export(tmp_path / "small", top1=0.95), "s" * 64, examples=50)
    for number, export in enumerate((toy, real, small), start=1):
        assert main(["publish", str(export), f"--to={tmp_path / 'published'}", *options]) == 0
        assert f"version {number} is the best of {VARIANT} on" in capsys.readouterr().err
    assert aliases_in(uri) == {
        "champion": 2,
        ON_RECORDS: 2,
        "champion-tttttttt": 1,
        "champion-ssssssss": 3,
        "published": 3,
    }
    better = change_export(make_export(tmp_path / "better", top1=0.96), "s" * 64, examples=50)
    assert main(["publish", str(better), f"--to={tmp_path / 'published'}", *options]) == 0
    assert main(["publish", str(small), f"--to={tmp_path / 'published'}", *options]) == 5
    assert "champion on the same records (version 4" in capsys.readouterr().err


ON_RECORDS = "champion-rrrrrrrr"


def change_export(export: Path, records_digest: str, examples: int) -> Path:
    """Let an export say that it was measured on other records."""
    metrics = metrics_of(export)
    write_metrics(
        export,
        dataclasses.replace(
            metrics,
            lineage=dataclasses.replace(metrics.lineage, records_digest=records_digest),
            formats={
                name: dataclasses.replace(figures, examples=examples)
                for name, figures in metrics.formats.items()
            },
        ),
    )
    return export


def aliases_in(uri: str) -> dict[str, int]:
    from mlflow import MlflowClient

    aliases = MlflowClient(uri, uri).get_registered_model(VARIANT).aliases
    return {name: int(number) for name, number in aliases.items()}
