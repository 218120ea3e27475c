"""Two models side by side: the differences are those of the files, and chance is called chance."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from pipeline.publish.comparison import compare, sign_test, tables
from pipeline.publish.registry import register
from preprocessing.errors import UsageError
from tests.pipeline.an_export import EXAMPLES, VARIANT, make_export, metrics_of, write_metrics


def test_every_metric_and_class_of_two_registered_versions(tmp_path: Path, uri: str) -> None:
    for top1 in (0.91, 0.97):
        export = make_export(tmp_path / f"{top1}", top1=top1)
        register(str(export), metrics_of(export), uri)
    result = compare(f"{VARIANT}/1", f"{VARIANT}@champion", uri)
    assert result["metrics"]["checkpoint.top1"] == pytest.approx([0.91, 0.97, 0.06])
    assert result["metrics"]["macs"] == [4_749_248, 4_749_248, 0]
    assert result["images"]["only_a_right"] == 0
    assert result["images"]["only_b_right"] == 6
    assert result["images"]["p_value"] == pytest.approx(2 * 0.5**6)
    # 100 images over 3 classes; the first 9 and the first 3 are wrong, a third of each class.
    assert sum(image_class["images"] for image_class in result["classes"]) == EXAMPLES
    for image_class in result["classes"]:
        assert image_class["a"] == pytest.approx(1 - 3 / image_class["images"])
        assert image_class["b"] == pytest.approx(1 - 1 / image_class["images"])
        assert image_class["difference"] == pytest.approx(2 / image_class["images"])
    text = tables(result)
    assert "| checkpoint.top1 | 0.9100 | 0.9700 | +0.0600 |" in text
    assert "6 in B only (p = 0.031)" in text


def test_an_export_directory_against_itself_differs_in_nothing(tmp_path: Path) -> None:
    export = str(make_export(tmp_path / "e"))
    result = compare(export, export, "sqlite:////nowhere/mlflow.db")
    assert {difference for _, _, difference in result["metrics"].values()} == {0}
    assert {image_class["difference"] for image_class in result["classes"]} == {0}
    assert result["images"]["p_value"] == 1


def test_a_name_cannot_break_the_table(tmp_path: Path) -> None:
    export = str(make_export(tmp_path / "e"))
    result = compare(export, export, "sqlite:////nowhere/mlflow.db")
    for row, name in zip(result["classes"], ("a|b", "*c*\n| d", "[e](http://f) <g>"), strict=True):
        row["name"] = name
    rows = [line for line in tables(result).splitlines() if line.startswith("| ")]
    named = [line for line in rows if len(re.findall(r"(?<!\\)\|", line)) == 6]
    assert [line.split(" | ")[0] for line in named[-3:]] == [
        r"| a\|b",
        r"| \*c\* \| d",
        r"| \[e\](http://f) \<g\>",
    ]


def test_what_only_one_has_is_shown_without_a_difference(tmp_path: Path) -> None:

    a, b = make_export(tmp_path / "a"), make_export(tmp_path / "b")
    metrics = metrics_of(b)
    float16 = dataclasses.replace(metrics.checkpoint, top1=0.97)
    metrics = dataclasses.replace(
        metrics,
        formats={**metrics.formats, "tflite_float16": float16},
        lineage=dataclasses.replace(metrics.lineage, records_digest="x" * 64),
    )
    write_metrics(b, metrics)
    result = compare(str(a), str(b), "")
    assert result["metrics"]["tflite_float16.top1"] == [None, 0.97, None]
    assert "classes" not in result
    assert "measured on different images" in tables(result)


def test_what_is_neither_is_refused_with_the_forms(tmp_path: Path) -> None:
    export = str(make_export(tmp_path / "e"))
    with pytest.raises(UsageError, match="VARIANT@champion"):
        compare(export, str(tmp_path), "")


def test_the_chance_of_a_split() -> None:
    """The expected value is the binomial distribution, counted by hand."""
    assert sign_test(0, 0) == 1
    assert sign_test(3, 3) == 1
    assert sign_test(1, 4) == pytest.approx(2 * (1 + 5) / 32)
    assert sign_test(4, 1) == sign_test(1, 4)
    assert sign_test(20_000, 21_000) < 1e-5
