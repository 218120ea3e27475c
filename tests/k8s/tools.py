"""The real programs that check the manifests, built once into the user's cache.

`python -m tests.k8s.tools` builds them all: minutes the first time, most of them for skaffold.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from tests.built_once import CACHE, UnreachableError, built_once, skip
from tests.toolchain import run_go

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parents[1] / "constraints" / "go"
# Each is built in a module whose go.sum has the digest of everything that goes into it.
PROGRAMS = {
    "kubeconform": (HERE / "linters", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "kube-score": (HERE / "linters", "github.com/zegl/kube-score/cmd/kube-score"),
    "kustomize": (CONSTRAINTS / "kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),
    "skaffold": (
        HERE / "skaffold",
        "github.com/GoogleContainerTools/skaffold/v2/cmd/skaffold",
    ),
}
CLUSTER = HERE.parent / "cluster" / "golang"
CRDS = {  # modules of `CLUSTER` that carry the definitions of their kinds
    "github.com/kubeflow/training-operator": "manifests/base/crds",
    "sigs.k8s.io/jobset": "config/components/crd/bases",
    "sigs.k8s.io/kueue": "config/components/crd/bases",
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
    module, package = PROGRAMS[name]
    pinned = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()

    def build(path: Path) -> None:
        print(f"building {name}", file=sys.stderr, flush=True)
        run_go("build", "-p=2", "-trimpath", f"-o={path}", package, module=module)

    return built_once(CACHE / "bin" / f"{name}-{hashlib.sha256(pinned).hexdigest()[:16]}", build)


def crd_folder(module: str) -> Path:
    """Return the folder of a module's custom resource definitions."""
    return Path(_downloaded(module)["Dir"]) / CRDS[module]


def commit_of(module: str) -> str:
    """Return the Git commit that a module of `CRDS` was made from, as Go's proxy says."""
    commit: str = json.loads(Path(_downloaded(module)["Info"]).read_text())["Origin"]["Hash"]
    return commit


def _downloaded(module: str) -> dict[str, str]:
    try:
        output = run_go("mod", "download", "-json", module, module=CLUSTER)
    except UnreachableError as error:
        skip(f"{module} cannot be downloaded: {error}")
    answer: dict[str, str] = json.loads(output)
    return answer


def kustomize_on_path(folder: Path) -> str:
    """Return PATH with the pinned kustomize first, linked in `folder`."""
    (folder / "kustomize").symlink_to(program("kustomize"))
    return f"{folder}:{os.environ['PATH']}"


if __name__ == "__main__":
    for tool in PROGRAMS:
        try:
            program(tool)
        except pytest.skip.Exception as error:
            print(f"{error}; tests that need it will be skipped", file=sys.stderr)
        except (RuntimeError, pytest.fail.Exception) as error:
            sys.exit(str(error))
