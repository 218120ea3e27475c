"""The example notebook runs unchanged, from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from pipeline.export import per_image
from tests.pipeline.conftest import make_export

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_format_says_in_the_notebook_what_it_said_when_it_was_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = make_export(tmp_path, "mobilenet_v2_0.35_96")
    monkeypatch.setenv("MOBILENET_EXPORT", str(exported.folder))
    monkeypatch.setenv("MOBILENET_RECORDS", exported.what.records)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # otherwise in the home folder
    notebook = nbformat.read(ROOT / "examples" / "mobilenet_example.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = notebook.cells[-1].outputs
    assert any("image/png" in output.get("data", {}) for output in shown), "no plot"
    lines = "".join(output.text for output in shown if output.get("name") == "stdout").splitlines()
    printed = {line[:24].strip(): line[24:].split(", ") for line in lines}
    labels = (exported.folder / "labels.txt").read_text().splitlines()
    assert set(printed) == {*exported.metrics.formats, "saved_model, from JPEG"}
    for name, top_five in printed.items():
        assert len(top_five) == 5
        best, _, probability = top_five[0].strip().rpartition(" ")
        kept = per_image.read(str(exported.folder), name.partition(",")[0])
        assert best == labels[kept.classes[0, 0]], name
        assert abs(float(probability) - kept.scores[0, 0]) < 0.01, name
