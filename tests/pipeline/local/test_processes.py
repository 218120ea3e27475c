"""A child never outlives its parent, whenever the parent ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local import processes

ORPHANS = """
import os, signal, sys
from pipeline.local import processes
processes.start(["sample", "--output", sys.argv[1]], {}, stdout=1)
os.kill(os.getpid(), signal.SIGKILL)
"""

SCRIPT = """
import sys
from pipeline.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def test_a_child_whose_parent_died_before_it_looked_does_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS, str(tmp_path / "archives")],
        stdout=subprocess.PIPE,  # ends when the last holder does, the orphan
        timeout=60,
        check=False,
    )
    assert done.stdout == b""
    assert not list(tmp_path.iterdir())


def test_modules_in_the_current_folder_are_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this was executed')")
    monkeypatch.chdir(tmp_path)
    child = processes.start(["--help"], {}, stdout=subprocess.PIPE)
    assert child.wait(300) == 0  # standard input stays open until then
    out, _ = child.communicate()
    assert "mobilenet" in out


def test_no_child_imports_from_the_current_folder(archives: Path, tmp_path: Path) -> None:
    """The console script does not, and neither do workers that multiprocessing starts."""
    script, here = tmp_path / "bin" / "mobilenet", tmp_path / "here"
    script.parent.mkdir()
    here.mkdir()
    script.write_text(SCRIPT)
    for name in ("multiprocessing", "random", "pickle"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    done = subprocess.run(
        [
            *(sys.executable, script, "prepare", f"--source={archives}"),
            *(f"--records={tmp_path / 'records'}", "--workers=2"),
        ],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists()
