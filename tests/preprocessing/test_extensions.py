"""Files outside the project register what people add, in every process of a command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preprocessing import extensions
from preprocessing.errors import UsageError
from tests.conftest import mobilenet

FAMILY = """
import dataclasses
from training.models import mobilenet_v2
from training.models.families import FAMILIES

FAMILIES["mine"] = dataclasses.replace(mobilenet_v2.FAMILY, name="mine")
"""


def test_a_family_of_a_file_is_known_to_a_command(tmp_path: Path) -> None:
    """That children know it as well is what every test of two workers shows."""
    (tmp_path / "my_family.py").write_text(FAMILY)
    named = f"{tmp_path}/my_family.py"
    outcome = mobilenet("plan", "--variant=mine_1.0_96", "--gpus=1", MOBILENET_EXTENSIONS=named)
    assert outcome.code == 0, outcome.err
    alone = mobilenet("plan", "--variant=mine_1.0_96", "--gpus=1", MOBILENET_EXTENSIONS="")
    assert alone.code == 2
    assert "unknown variant 'mine_1.0_96'" in alone.err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.py", None, "No such file"),
        ("folder.py", "", "Is a directory"),
        ("other.txt", "x = 1", "does not end in .py"),
        ("syntax.py", "def", "SyntaxError"),
        ("import.py", "import nothing_of_this_name", "nothing_of_this_name"),
        ("name.py", "FAMILIES['x'] = 1", "'FAMILIES' is not defined"),
        ("leaves.py", "raise SystemExit(0)", "SystemExit"),
        ("bytes.py", "\udcff", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    path = tmp_path / name
    if name == "folder.py":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    outcome = mobilenet("config", MOBILENET_EXTENSIONS=str(path))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert str(path) in line
    assert reason in line
    assert "separated by ':'" in line


def test_each_file_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    text = f"open({str(count)!r}, 'a').write(__file__ + chr(10))"
    files = [tmp_path / "one.py", tmp_path / "other" / "one.py"]
    files[1].parent.mkdir()
    for file in files:
        file.write_text(text)
    monkeypatch.setenv(extensions.VARIABLE, os.pathsep.join([*map(str, files), ""]))
    for _ in range(2):
        extensions.load()
    assert count.read_text().splitlines() == list(map(str, files))


def test_a_file_that_failed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "late.py"
    monkeypatch.setenv(extensions.VARIABLE, str(file))
    with pytest.raises(UsageError, match=r"late\.py, which cannot be loaded"):
        extensions.load()
    file.write_text("")
    extensions.load()
