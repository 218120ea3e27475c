"""The wheel has all that commands need, and they do outside a checkout what they do inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.k8s import tools
from tests.toolchain import ROOT

PACKAGES = ("pipeline", "preprocessing", "training")
BUILT_FROM = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
LAUNCH = ("--variant=mobilenet_v2_0.35_64", "--overlay=local", "--gpus=0", "--name=run")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the checkout, which it leaves as it is."""
    scratch = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "k8s"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, scratch / "copy" / name, ignore=ignored)
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, scratch / "copy" / name)
    pip("wheel", "--no-build-isolation", f"--wheel-dir={scratch}", str(scratch / "copy"))
    (path,) = scratch.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", f"--target={folder}", str(wheel))
    return folder


def pip(command: str, *arguments: str) -> None:
    line = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_the_wheel_has_every_file_of_the_packages_and_every_manifest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = {PurePosixPath(name) for name in opened.namelist()}
    packed = {str(name) for name in names if not name.parts[0].endswith(".dist-info")}
    code = {f"{package}/{name}" for package in PACKAGES for name in files(ROOT / package)}
    assert packed == code | {f"pipeline/cluster/manifests/{name}" for name in files(ROOT / "k8s")}
    assert any(name.name == "LICENSE" for name in names)


@pytest.mark.parametrize(
    "arguments",
    [
        ("launch", "--render", "--pipeline", *LAUNCH),
        ("config", "--recipe=demo"),
        ("plan", "--variant=mobilenet_v2_1.0_224", "--gpus=8"),
        ("table",),
        ("doctor",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_of_the_wheel_does_what_that_of_the_checkout_does(
    installed: Path, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    outcomes = []
    for code in (ROOT, installed):
        folder = tmp_path / f"below {code.name}"
        folder.mkdir()
        path = tmp_path / "bin" / code.name
        path.mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
            "HOME": str(folder),
            "PATH": tools.kustomize_on_path(path),
            "PYTHONPATH": str(code),
        }
        command = [sys.executable, "-m", "pipeline", *arguments]
        # In an empty folder, so that Python takes the code from PYTHONPATH.
        outcomes.append(
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        )
        assert "Traceback" not in outcomes[-1].stderr
    inside, outside = outcomes
    assert (outside.returncode, outside.stdout) == (inside.returncode, inside.stdout)
    assert inside.returncode == 0 or inside.stderr.startswith("mobilenet: "), inside.stderr
    assert inside.stdout or inside.stderr
