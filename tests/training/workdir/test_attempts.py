"""Attempts without progress are counted, and end."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing.errors import PermanentError, RetryError
from training.workdir import attempts
from training.workdir.workdir import Workdir


def reach(workdir: Path, step: int) -> None:
    """Write a complete checkpoint, as far as counting is concerned."""
    (workdir / "checkpoints").mkdir(exist_ok=True)
    (workdir / "checkpoints" / f"ckpt-{step}.json").write_text("{}")
    assert Workdir(str(workdir)).newest_checkpoint_step() == step


def test_attempts_without_progress_end_with_the_last_reason_and_what_to_do(tmp_path: Path) -> None:
    reach(tmp_path, 40)
    for _ in range(3):
        attempts.begin(Workdir(str(tmp_path)), 3)
        attempts.note_failure(Workdir(str(tmp_path)), RetryError("lost a peer: Connection reset"))
    with pytest.raises(PermanentError) as refused:
        attempts.begin(Workdir(str(tmp_path)), 3)
    assert refused.value.exit_code == 1
    for part in ("3 attempts in a row", "after step 40", "Connection reset", attempts.FILE):
        assert part in str(refused.value)


def test_a_new_checkpoint_starts_the_count_anew(tmp_path: Path) -> None:
    for step in range(1, 20):
        attempts.begin(Workdir(str(tmp_path)), 2)
        reach(tmp_path, step)


def test_an_attempt_that_was_asked_to_end_does_not_count(tmp_path: Path) -> None:
    for _ in range(10):
        attempts.begin(Workdir(str(tmp_path)), 1)
        attempts.uncount(Workdir(str(tmp_path)))
