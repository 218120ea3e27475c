"""Tests install what they need into the user's cache, and say what they could not install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolchain import JAVA_VERSIONS, ROOT, java

# Nobody listens there: a tool that Go would have to download is unavailable.
NO_NETWORK = {"GOPROXY": "http://127.0.0.1:9"}
NEEDS_KUSTOMIZE = """
from tests.k8s import tools

def test_one(): tools.program("kustomize")
def test_another(): tools.program("kustomize")
"""


def outcome(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    variables = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        command, cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True
    )


def go_with(**environment: str) -> list[str]:
    """Return program, version and module cache of the tests' Go."""
    code = (
        "from tests.toolchain import ROOT, go, run_go; print(go().program);"
        "print(run_go('env', 'GOVERSION', 'GOMODCACHE', module=ROOT), end='')"
    )
    done = outcome("-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def named_go(folder: Path, version: str) -> str:
    """Return a PATH with nothing but a Go that answers each question with its version."""
    folder.mkdir()
    program = folder / "go"
    program.write_text(f"#!/bin/sh\nshift\nfor _; do echo {version}; done\n")
    program.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("version", ["go1.9", "go1.25.9", None])
def test_a_go_that_is_too_old_or_missing_is_that_of_the_wheel(
    tmp_path: Path, version: str | None
) -> None:
    path = named_go(tmp_path / "bin", version) if version else str(tmp_path)
    program, used, _ = go_with(PATH=path)
    assert Path(program).is_relative_to(sys.prefix)
    assert used.startswith("go1.26")


def test_a_newer_go_on_path_is_used(tmp_path: Path) -> None:
    program, _, _ = go_with(PATH=named_go(tmp_path / "bin", "go1.99.0"))
    assert Path(program) == tmp_path / "bin" / "go"


def test_modules_lie_in_the_users_cache_unless_they_chose_another_place(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "GOPATH": "", "GOMODCACHE": "", "XDG_CACHE_HOME": ""}
    _, _, modules = go_with(**home)
    assert Path(modules).is_relative_to(tmp_path / ".cache")
    assert {path.name for path in tmp_path.iterdir()} <= {".cache"}
    _, _, modules = go_with(**home | {"GOPATH": str(tmp_path / "chosen")})
    assert Path(modules) == tmp_path / "chosen" / "pkg" / "mod"


def test_java_is_one_on_which_flink_runs() -> None:
    done = subprocess.run([java().program, "-version"], capture_output=True, text=True, check=True)
    assert any(f'version "{version}.' in done.stderr for version in JAVA_VERSIONS)


def test_what_is_unavailable_is_skipped_and_said_last_but_fails_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_needs.py").write_text(NEEDS_KUSTOMIZE)
    run = ("-m", "pytest", "--rootdir", str(tmp_path), "-p", "tests.built_once", str(tmp_path))
    environment = {**NO_NETWORK, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    local = outcome(*run, **environment)
    assert local.returncode == 0, local.stdout
    *_, said, _ = filter(None, local.stdout.splitlines())  # and then how many, in seconds
    reason = "bin/kustomize cannot be made: dial tcp 127.0.0.1:9"
    assert said.startswith(f"2 skipped, because {reason}"), local.stdout
    ci = outcome(*run, **environment, CI="true")
    assert ci.returncode == 1
    assert reason in ci.stdout
    assert "2 failed" in ci.stdout
