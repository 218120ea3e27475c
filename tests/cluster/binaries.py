"""The programs of a cluster, built once from the Go module proxy into the user's cache.

`golang/go.mod` pins them. Their manifests (CRDs, webhooks, roles) lie in the same modules, and is
copied next to the programs. `python -m tests.cluster.binaries` builds them: minutes the first
time, which `-p=2` keeps within the memory of a small machine; nothing afterwards.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.built_once import CACHE, built_once
from tests.toolchain import run_go

GOLANG = Path(__file__).parent / "golang"
KUBERNETES_VERSION = "v1.36.3"  # the client libraries of all the controllers are of this version
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kubernetes": "./kubernetes",
    "training-operator": "github.com/kubeflow/training-operator/cmd/training-operator.v1",
    "jobset": "sigs.k8s.io/jobset",
    "kueue": "sigs.k8s.io/kueue/cmd/kueue",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
MANIFESTS = {
    "training-operator": ("github.com/kubeflow/training-operator", "manifests"),
    "jobset": ("sigs.k8s.io/jobset", "config"),
    "kueue": ("sigs.k8s.io/kueue", "config"),
    "kwok": ("sigs.k8s.io/kwok", "kustomize"),
}


@dataclass(frozen=True)
class Binaries:
    """Paths of the built programs and their manifests."""

    folder: Path

    def program(self, name: str) -> list[str]:
        """Return the command of a program of `PACKAGES`, or of one inside `kubernetes`."""
        if name in PACKAGES:
            return [str(self.folder / name)]
        return [str(self.folder / "kubernetes"), name]

    def manifests(self, name: str) -> Path:
        """Return the kustomizations that a project ships, of exactly the built version."""
        return self.folder / "manifests" / name


def built() -> Binaries:
    """Build what is missing in the user's cache; one builder works at a time.

    Raises:
        RuntimeError: Go could not build; the message has what it says.
    """
    return Binaries(built_once(CACHE / f"cluster-{_digest()}", _build))


def built_kubelet() -> Path:
    """Return the kubelet of the same version, which only `tests.cluster.kubelet` needs.

    Raises:
        RuntimeError: As `built`.
    """
    package = "k8s.io/kubernetes/cmd/kubelet"
    return built_once(CACHE / f"kubelet-{_digest()}", lambda path: _go_build(package, path))


def _build(folder: Path) -> None:
    for name, package in PACKAGES.items():
        _go_build(package, folder / name)
    kubectl = folder / "bin" / "kubectl"  # for programs that look for it on their PATH
    kubectl.parent.mkdir()
    kubectl.write_text('#!/bin/sh\nexec "${0%/bin/*}/kubernetes" kubectl "$@"\n')
    kubectl.chmod(0o755)
    for name, (module, subfolder) in MANIFESTS.items():
        source = run_go("list", "-m", "-f={{.Dir}}", module, module=GOLANG).strip()
        copy = folder / "manifests" / name
        shutil.copytree(f"{source}/{subfolder}", copy, copy_function=shutil.copyfile)
        for path in [copy, *copy.rglob("*")]:  # the module cache is read-only
            path.chmod(0o755 if path.is_dir() else 0o644)


def _go_build(package: str, program: Path) -> None:
    print(f"building {program.name} ({package})", file=sys.stderr, flush=True)
    stamp = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    linker = " ".join(
        [
            "-s -w",  # no debugging symbols: half the size, and the links are faster
            f"-X {stamp}.gitVersion={KUBERNETES_VERSION}",
            f"-X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}",
            f"-X {stamp}.gitTreeState=clean",
        ]
    )
    run_go(
        *("build", "-p=2", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"),
        *(f"-ldflags={linker}", f"-o={program}", package),
        module=GOLANG,
    )


def _digest() -> str:
    digest = hashlib.sha256(repr((KUBERNETES_VERSION, PACKAGES, MANIFESTS)).encode())
    for path in sorted(GOLANG.rglob("*.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    try:
        print(built().folder)
    except (RuntimeError, pytest.skip.Exception, pytest.fail.Exception) as error:
        sys.exit(str(error))
