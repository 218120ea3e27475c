"""Checkouts of this repository in which a test edits the manifests as a user would."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.access import REPOSITORY


def make_checkout(folder: Path) -> Path:
    """Make a checkout with this repository's programs and a copy of its manifests.

    Args:
        folder: Empty; afterwards it can be the `checkout` of a cluster.

    Returns:
        Its `k8s/overlays`.
    """
    for package in ("pipeline", "preprocessing", "training"):
        (folder / package).symlink_to(REPOSITORY / package)
    shutil.copytree(REPOSITORY / "k8s", folder / "k8s")
    return folder / "k8s" / "overlays"
