"""The contract says of every file what goes in, and which line names an output."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.export.directory import read_labels
from pipeline.export.input_contract import input_contract, labels
from preprocessing.records.schema import ImageClass, Manifest
from training.config import EvaluationConfig

TEXTS = ("a\u0085b", "c\u2028d", "e\rf", "g\nh", "caf\u00e9\u202f1", "")


def test_every_output_has_one_line_whatever_descriptions_hold(
    records: Path, tmp_path: Path
) -> None:
    classes = tuple(
        ImageClass(index=index, synset=f"n{index}", text=text)
        for index, text in enumerate(TEXTS, start=1)
    )
    manifest = dataclasses.replace(Manifest.read(str(records)), classes=classes)
    content = labels(manifest)
    (tmp_path / "labels.txt").write_bytes(content)
    expected = ["background", "a b", "c d", "e f", "g h", "caf\u00e9\u202f1", ""]
    assert content.decode().splitlines() == expected
    assert read_labels(str(tmp_path)) == expected


@pytest.mark.parametrize("is_applied", [False, True])
def test_orientation_and_bytes_are_said(is_applied: bool, records: Path) -> None:
    manifest = Manifest.read(str(records))
    options = {**manifest.options, "apply_orientation": is_applied}
    manifest = dataclasses.replace(manifest, options=options)
    contract = input_contract(224, EvaluationConfig(), manifest)
    assert ("is applied" in contract.orientation) == is_applied
    assert ("is ignored" in contract.orientation) == (not is_applied)
    assert "counted from 0" in contract.labels
    assert "minus 128" in contract.quantized
