"""The page of a certificate: verdicts first, then every figure."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.certificate.contract import Certificate
from pipeline.certificate.machine import gib
from pipeline.publish.pages import templates

TEMPLATE = os.path.join(os.path.dirname(__file__), "certificate.html")


def render(certificate: Certificate) -> bytes:
    """Return the page; it needs no other file."""
    figures = certificate.figures
    speeds = figures.speed.images_per_second_per_device
    content = {
        "certificate": certificate,
        "figures": figures,
        "title": ", ".join(
            f"{count} x {hardware}" if count > 1 else hardware
            for hardware, count in Counter(figures.machine.hardware).items()
        ),
        "fastest": max(speeds.values()),
        "counts": {
            outcome: sum(check.outcome == outcome for check in certificate.checks)
            for outcome in ("passed", "warned", "failed")
        },
        "every_figure": list(leaves(certificate.to_json())),
    }
    return templates.render(TEMPLATE, content, {"number": number, "gib": gib, "of_gib": of_gib})


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every figure of parsed JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def number(value: float | None) -> str:
    """Return a number with four digits and separators, or that it is not finite."""
    if value is None:
        return "not finite"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def of_gib(num_bytes: float, total_bytes: float) -> str:
    """Return a part of a size in GiB."""
    return f"{num_bytes / 2**30:.1f} of {gib(total_bytes)}"
