"""The commit in a run's record is one of this code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from training.workdir import run_record

COMMIT = re.compile(r"[0-9a-f]{40}(?:-dirty)?")


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_foreign_repository_around_an_installed_package_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOBILENET_GIT_COMMIT", raising=False)
    installed = tmp_path / "site-packages"
    installed.mkdir()
    file = Path(shutil.copy(run_record.__file__, installed))
    monkeypatch.setattr(run_record, "__file__", str(file))
    assert run_record.git_commit() == "unknown"
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "--message=theirs")
    assert run_record.git_commit() == "unknown"
    monkeypatch.setenv("MOBILENET_GIT_COMMIT", "of the image")
    assert run_record.git_commit() == "of the image"
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--message=a fork, which tracks this code")
    assert COMMIT.fullmatch(run_record.git_commit())
