"""Fixtures that the tests of the pipeline share: a real export, made once, an empty registry."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.random_networks import write_digits, write_run
from pipeline.export import directory
from pipeline.export.exporter import export
from pipeline.export.job import Export
from pipeline.export.metrics import ExportMetrics, InputContract
from pipeline.publish import registry
from pipeline.publish.embedded_registry import sqlite_uri
from preprocessing import storage
from training.workdir.workdir import Workdir

VARIANT = "shallow_1.0_96"


@dataclass(frozen=True)
class Exported:
    """An export directory and the job that made it."""

    folder: Path
    what: Export

    @property
    def metrics(self) -> ExportMetrics:
        """`metrics.json`."""
        return directory.read_metrics(str(self.folder))

    @property
    def contract(self) -> InputContract:
        """The input contract in `metrics.json`."""
        contract = self.metrics.input_contract
        assert contract
        return contract

    def file(self, suffix: str) -> str:
        """Return path of the file with the variant's name and this ending."""
        return str(self.folder / f"{self.what.variant.name}{suffix}")


def make_export(folder: Path, variant: str, num_classes: int = 10, **options: Any) -> Exported:
    """Export an untrained network into `folder / "export"`."""
    records, workdir = folder / "records", folder / "run"
    manifest = write_digits(records, num_classes=num_classes, train=60, validation=40)
    run = write_run(workdir, variant, records, manifest)
    what = Export(
        workdir=Workdir(str(workdir)), records=str(records), run=run, manifest=manifest, **options
    )
    export(what, str(folder / "export"))
    return Exported(folder / "export", what)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return an export with all its files."""
    return make_export(tmp_path_factory.mktemp("exported"), VARIANT)


@pytest.fixture(scope="session")
def float32(exported: Exported) -> bytes:
    """Return its float32 TF-Lite file."""
    return storage.read_bytes(exported.file(".tflite"))


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a registry once, because MLflow's tables take seconds."""
    folder = tmp_path_factory.mktemp("empty") / "registry"
    assert registry.champion("mobilenet_v2_1.0_224", "r" * 64, sqlite_uri(str(folder))) is None
    return folder


@pytest.fixture
def uri(tmp_path: Path, empty_registry: Path) -> str:
    """Return a registry of this test's own."""
    shutil.copytree(empty_registry, tmp_path / "registry")
    return sqlite_uri(str(tmp_path / "registry"))
