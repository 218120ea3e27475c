"""A registry for every test that needs one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.registry import sqlite_uri


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making MLflow's tables takes seconds; once is enough."""
    folder = tmp_path_factory.mktemp("empty") / "registry"
    assert registry.champion("mobilenet_v2_1.0_224", sqlite_uri(str(folder))) is None
    return folder


@pytest.fixture
def uri(tmp_path: Path, empty_registry: Path) -> str:
    """A registry of this test's own."""
    shutil.copytree(empty_registry, tmp_path / "registry")
    return sqlite_uri(str(tmp_path / "registry"))
