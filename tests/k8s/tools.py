"""The real programs that check the manifests, built once into the user's cache.

`python -m tests.k8s.tools` builds them all: minutes the first time, most of them for skaffold.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest

INSTALLED = {
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1",
}
SKAFFOLD = Path(__file__).parent / "skaffold"  # a module, because it needs replacements
SKAFFOLD_PACKAGE = "github.com/GoogleContainerTools/skaffold/v2/cmd/skaffold"
CRDS = {  # modules that carry the definitions of their kinds
    "github.com/kubeflow/training-operator@v1.9.4": "manifests/base/crds",
    "sigs.k8s.io/jobset@v0.12.0": "config/components/crd/bases",
    "sigs.k8s.io/kueue@v0.19.2": "config/components/crd/bases",
}

CRD_NAMES = ("tfjobs", "jobsets", "clusterqueues", "localqueues", "resourceflavors")


def program(name: str) -> Path:
    """A program, built if it is not in the user's cache yet."""
    version = "v2.24.0" if name == "skaffold" else INSTALLED[name].partition("@")[2]
    folder = platformdirs.user_cache_path("mobilenet-tests") / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}"
    with open(folder / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            print(f"building {name} {version}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                if name == "skaffold":
                    _go("build", "-p=2", "-trimpath", f"-o={scratch}", SKAFFOLD_PACKAGE)
                else:
                    _go("install", INSTALLED[name], GOBIN=scratch)
                os.replace(Path(scratch) / name, path)
    return path


def crd_folder(module: str) -> Path:
    """The folder of a module's custom resource definitions."""
    answer = json.loads(_go("mod", "download", "-json", module))
    return Path(answer["Dir"]) / CRDS[module]


def kustomize_on_path(folder: Path) -> str:
    """PATH with the pinned kustomize first, by a link in `folder`; an installed one may be old."""
    (folder / "kustomize").symlink_to(program("kustomize"))
    return f"{folder}:{os.environ['PATH']}"


def _go(*arguments: str, **environment: str) -> str:
    go = shutil.which("go")
    if not go:
        pytest.fail("the manifests' tests build kustomize and others: install Go 1.26 or newer")
    done = subprocess.run(
        [go, *arguments],
        cwd=SKAFFOLD,
        env={**os.environ, "CGO_ENABLED": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


if __name__ == "__main__":
    try:
        for each in (*INSTALLED, "skaffold"):
            program(each)
    except pytest.fail.Exception as error:
        sys.exit(str(error))
