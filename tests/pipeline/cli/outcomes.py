"""A check of commands that are refused."""

from __future__ import annotations

from tests.conftest import Outcome


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """Check the exit code, and that stderr is one line with `words` and no traceback."""
    assert outcome.code == code, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("mobilenet")]
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in lines[0]
