"""The real programs that check the manifests, built once into the user's cache.

`python -m tests.k8s.tools` builds them all: minutes the first time, most of them for skaffold.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.built_once import BUILD_ENVIRONMENT, CACHE, built_once

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

CRD_NAMES = (
    "tfjobs",
    "jobsets",
    "clusterqueues",
    "localqueues",
    "resourceflavors",
    "workloadpriorityclasses",
)


def program(name: str) -> Path:
    """Return a program, built if it is not in the user's cache yet."""
    version = "v2.24.0" if name == "skaffold" else INSTALLED[name].partition("@")[2]

    def build(path: Path) -> None:
        print(f"building {name} {version}", file=sys.stderr, flush=True)
        if name == "skaffold":
            _go("build", "-p=2", "-trimpath", f"-o={path}", SKAFFOLD_PACKAGE)
        else:
            _go("install", INSTALLED[name], GOBIN=str(path.parent))
            os.replace(path.parent / name, path)

    return built_once(CACHE / "bin" / f"{name}-{version}", build)


def crd_folder(module: str) -> Path:
    """Return the folder of a module's custom resource definitions."""
    answer = json.loads(_go("mod", "download", "-json", module))
    return Path(answer["Dir"]) / CRDS[module]


def kustomize_on_path(folder: Path) -> str:
    """Return PATH with the pinned kustomize first, linked in `folder`."""
    (folder / "kustomize").symlink_to(program("kustomize"))
    return f"{folder}:{os.environ['PATH']}"


def _go(*arguments: str, **environment: str) -> str:
    go = shutil.which("go")
    if not go:
        pytest.fail("the manifests' tests build kustomize and others: install Go 1.26 or newer")
    done = subprocess.run(
        [go, *arguments],
        cwd=SKAFFOLD,
        env={**BUILD_ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


if __name__ == "__main__":
    try:
        for tool in (*INSTALLED, "skaffold"):
            program(tool)
    except pytest.fail.Exception as error:
        sys.exit(str(error))
