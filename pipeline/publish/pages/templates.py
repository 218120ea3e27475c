"""Templates of self-contained HTML pages, which share their style."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

FOLDER = os.path.dirname(__file__)  # of `style.html` and `parts.html`, which templates include


def render(
    path: str, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> bytes:
    """Return the page that the template `path` makes of `content`, in UTF-8."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([os.path.dirname(path), FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= filters
    return environment.get_template(os.path.basename(path)).render(**content).encode()
