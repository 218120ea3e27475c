"""The benchmark at true counts runs the real commands, and continues what it has begun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from preprocessing.records.schema import Manifest

SHORT = ("source", "prepare", "inspect", "inspect_verify", "plan")


def measure(folder: Path, *stages: str) -> tuple[dict[str, dict[str, float]], str]:
    """Run the benchmark; return its figures by stage and the table that it prints."""
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.scale", str(folder)),
            *("--counts", "small", "--stages", ",".join(stages)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads((folder / "figures.json").read_text()), completed.stdout


@pytest.mark.slow
def test_every_stage_is_measured_and_a_folder_is_continued(tmp_path: Path) -> None:
    figures, table = measure(tmp_path, *SHORT)
    assert set(figures) == set(SHORT)
    manifest = Manifest.read(str(tmp_path / "records"))
    assert (manifest.num_examples("train"), manifest.num_examples("validation")) == (2000, 200)
    for stage in SHORT[1:]:
        assert figures[stage]["seconds"] > 0
        assert 0 < figures[stage]["largest_mib"] < 300
        assert figures[stage]["all_mib"] > 0
        assert f"| {stage.replace('_', ' ')} |" in table
    again, _ = measure(tmp_path, "inspect")
    kept = [stage for stage in SHORT if stage != "inspect"]
    assert [again[stage] for stage in kept] == [figures[stage] for stage in kept]
