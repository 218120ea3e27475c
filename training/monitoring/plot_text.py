"""Text of strangers in plots."""

from __future__ import annotations


def literal(text: str) -> str:
    """Return `text` in the form that matplotlib draws as it is: dollars start no mathematics."""
    return text.replace("$", r"\$")
