"""The content of a folder, in a form that can be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path


def content(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
