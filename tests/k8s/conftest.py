"""Every overlay with every component, rendered once."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.k8s import tools

ROOT = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("local", "gke")
PLATFORM_COMPONENTS = ("data-service-servers", "flink-cluster", "kueue-queue")
JOB_COMPONENTS = tuple(
    sorted(
        component.name
        for component in (ROOT / "components").iterdir()
        if component.name not in PLATFORM_COMPONENTS
    )
)
CASES = [
    (overlay, half, component)
    for overlay in OVERLAYS
    for half, components in (("jobs", JOB_COMPONENTS), ("platform", PLATFORM_COMPONENTS))
    for component in ("", *components)
]
Manifest = dict[str, Any]


@functools.cache
def built(
    overlay: str, half: str, component: str, namespace: str = "mobilenet"
) -> tuple[Manifest, ...]:
    """Return an overlay's half with one component, as a user adds it: in the overlay's list.

    `namespace` is what the user writes into the overlay.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "k8s"
        shutil.copytree(ROOT, copy)
        folder = copy / "overlays" / overlay / half
        path = folder / "kustomization.yaml"
        kustomization = yaml.safe_load(path.read_text())
        kustomization["namespace"] = namespace
        if component:
            kustomization["components"].append(f"../../../components/{component}")
        path.write_text(yaml.safe_dump(kustomization))
        command = [str(tools.program("kustomize")), "build", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return tuple(doc for doc in yaml.safe_load_all(done.stdout) if doc)
