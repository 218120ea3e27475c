"""A cluster as one of Google's: the overlay `gke`, installed by the lines of the runbook."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cluster.access import REPOSITORY, WAIT_SECONDS
from tests.cluster.checkouts import make_checkout
from tests.cluster.own import REAL_NODES, Cluster
from tests.runbook import command_lines

RUNBOOK = REPOSITORY / "docs" / "operations.md"
NAMESPACE = "on-gke"  # of its own: the platform of the other tests stays as it is
INSTALLING = (
    "kubectl apply --server-side -f k8s/",
    "kubectl -n mobilenet create secret",
    "kubectl apply --server-side -k k8s/",
)
SQLITE = [  # there is no PostgreSQL here
    {
        "op": "replace",
        "path": "/spec/template/spec/containers/0/env",
        "value": [
            {"name": "DATABASE", "value": "sqlite:////tmp/mlflow.db"},
            {"name": "HOME", "value": "/tmp"},
        ],
    }
]


def as_gke(cluster: Cluster, folder: Path) -> Cluster:
    """Return the cluster with GPU nodes by name, and a checkout for the store's bucket.

    Args:
        cluster: Started.
        folder: Empty, for the checkout; its manifests get the names that the runbook asks for,
            and SQLite for MLflow.
    """
    overlay = make_checkout(folder) / "gke"
    for path in overlay.rglob("*.yaml"):
        text = path.read_text().replace("gs://BUCKET", cluster.store.bucket)
        path.write_text(text.replace("REGION", "europe-west4").replace("PROJECT", "project"))
    namespace = folder / "k8s" / "base" / "platform" / "namespace.yaml"
    namespace.write_text(namespace.read_text().replace("name: mobilenet", f"name: {NAMESPACE}"))
    platform = overlay / "platform" / "kustomization.yaml"
    described = yaml.safe_load(platform.read_text())
    described["namespace"] = NAMESPACE
    mlflow = {"kind": "Deployment", "name": "mlflow"}
    described["patches"] = [{"target": mlflow, "patch": yaml.safe_dump(SQLITE)}]
    platform.write_text(yaml.safe_dump(described))
    program = folder / "bin" / "mobilenet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline "$@"\n')
    program.chmod(0o755)
    for node in REAL_NODES:
        cluster.kubectl("label", "node", node, "cloud.google.com/gke-accelerator=nvidia-l4")
    return dataclasses.replace(cluster, namespace=NAMESPACE, checkout=folder)


def install_by_runbook(cluster: Cluster) -> None:
    """Run the lines with which the runbook installs the platform; wait for its servers."""
    lines = [line for line in command_lines(RUNBOOK) if line.startswith(INSTALLING)]
    assert len(lines) == len(INSTALLING), lines
    for line in lines:
        done = run_line(cluster, line)
        assert done.returncode == 0, (line, done.stderr)
    for name in ("mlflow", "supervisor", "tensorboard"):
        cluster.kubectl(
            *("wait", "-n", NAMESPACE, f"deployment/{name}", "--for=condition=Available"),
            f"--timeout={WAIT_SECONDS:.0f}s",
        )


def run_line(cluster: Cluster, line: str, run: str = "") -> subprocess.CompletedProcess[str]:
    """Run a line of the runbook in the checkout, with the names of this cluster.

    Args:
        cluster: Of `as_gke`.
        line: As the runbook has it.
        run: Takes the place of RUN.
    """
    for placeholder, value in {
        "-n mobilenet": f"-n {NAMESPACE}",
        "gs://BUCKET": cluster.store.bucket,
        "RUN": run,
    }.items():
        line = line.replace(placeholder, value)
    environment = cluster.environment
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cluster.checkout,
        env={**environment, "PATH": f"{cluster.checkout / 'bin'}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
