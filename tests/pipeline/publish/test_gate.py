"""Nothing is published that differs from what was measured, or is worse than the champion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.publish import gate
from pipeline.publish.registry_client import Version
from preprocessing.errors import CheckFailedError, DataError
from tests.pipeline.an_export import VARIANT, make_export, metrics_of


def version(top1: float, records_digest: str = "r" * 64) -> Version:
    return Version(
        model=VARIANT,
        version=3,
        run_id="run",
        export_digest="d",
        top1=top1,
        records_digest=records_digest,
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
    with pytest.raises(CheckFailedError, match=r"0\.9000 is below 0\.9100 .*version 3, same"):
        gate.require_champion(metrics, version(0.91), force=False)
    with pytest.raises(CheckFailedError, match="other records"):
        gate.require_champion(metrics, version(0.91, "x" * 64), force=False)
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
        f"mobilenet: {VARIANT}: top-1 0.9000 is below 0.9500 of the champion"
    )
    assert (published / "index.json").read_bytes() == before
    aliases = aliases_in(uri)
    assert aliases == {"champion": 1, "published": 1}
    assert main(["publish", str(worse), *options, "--overwrite", "--force"]) == 0
    assert aliases_in(uri) == {"champion": 1, "published": 2}


def aliases_in(uri: str) -> dict[str, int]:
    from mlflow import MlflowClient

    aliases = MlflowClient(uri, uri).get_registered_model(VARIANT).aliases
    return {name: int(number) for name, number in aliases.items()}
