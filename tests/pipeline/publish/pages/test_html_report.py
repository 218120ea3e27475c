"""The report is one page that needs nothing else and says what the files say."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline.export import directory, per_image
from pipeline.export.predictions import Predictions
from pipeline.publish.pages.html_report import report
from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from tests.pipeline.an_export import VARIANT, make_export, metrics_of, write_metrics
from tests.pipeline.publish.publishing import publish_to

VOID = {"meta", "img", "br", "link", "wbr"}


class Page(HTMLParser):
    """Text, images and addresses of a page whose elements all close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.open, self.addresses = "", [], []  # type: str, list[str], list[str]
        self.feed(path.read_text())
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def pictured_export(records: Path, folder: Path) -> tuple[Path, Predictions]:
    """Make an export whose answers on the validation images of `records` are random."""
    manifest = Manifest.read(str(records))
    export = make_export(folder)
    (export / "labels.txt").write_text(
        "".join(f"{name}\n" for name in ("<background>", *(c.text for c in manifest.classes)))
    )
    rng = np.random.default_rng(5)
    labels = rng.integers(1, 11, manifest.num_examples("validation"))
    predictions = Predictions.of(rng.random((len(labels), 11), np.float32), labels)
    per_image.write(str(export), {"checkpoint": predictions}, 11)
    metrics = metrics_of(export)
    metrics = dataclasses.replace(
        metrics,
        lineage=dataclasses.replace(metrics.lineage, records_digest=manifest.digest),
        files=directory.file_digests(str(export)),
    )
    write_metrics(export, metrics)
    return export, predictions


def test_an_export_without_its_records(tmp_path: Path) -> None:
    report(str(make_export(tmp_path / "e")), str(tmp_path / "report.html"), None)
    page = Page(tmp_path / "report.html")
    for text in ("Worst mistakes", "3 of 100 images are wrong", "Pass --records", "r" * 64):
        assert text in page.text
    assert all(address.startswith("#") for address in page.addresses), "not self-contained"


def test_an_export_with_its_images(records: Path, tmp_path: Path) -> None:
    """The page shows the most confident mistakes, with their own pictures."""
    export, predictions = pictured_export(records, tmp_path / "e")
    labels = predictions.labels
    report(str(export), str(tmp_path / "report.html"), str(records))
    page = Page(tmp_path / "report.html")
    pictures = [
        address for address in page.addresses if address.startswith("data:image/jpeg;base64,")
    ]
    assert len(pictures) == 24
    shown = [int(match) for match in re.findall(r"validation image (\d+), ranked", page.text)][-12:]
    wrong = predictions.top1_classes != labels
    sureness = predictions.scores.max(axis=1).astype(np.float16)
    surest = np.argsort(-np.where(wrong, sureness, 0), kind="stable")
    assert shown == surest[:12].tolist()
    assert "<background>" in page.text, "a class name is text, not markup"


def test_other_records_are_refused(records: Path, tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    with pytest.raises(UsageError, match="not the records this export was measured on"):
        report(str(export), str(tmp_path / "report.html"), str(records))
    assert not (tmp_path / "report.html").exists()


def test_the_latency_of_the_only_network_is_shown_format_by_format(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    publish_to(export, tmp_path / "published")
    report(str(tmp_path / "published"), str(tmp_path / "report.html"), None)
    page = Page(tmp_path / "report.html")
    plot = page.text[page.text.index("Latency as measured") :].split("Latency as published")[0]
    latencies = metrics_of(export).latency.formats
    assert len(latencies) == 2
    for name, latency in latencies.items():
        assert name in plot
        assert plot.split().count(f"{latency.median_ms:.2f}") >= len(latencies)


def test_a_published_folder_with_originals_beside(tmp_path: Path) -> None:
    for variant, top1, classes in ((VARIANT, 0.9, 3), ("mobilenet_v2_1.0_224", 0.72, 1000)):
        export = make_export(tmp_path / variant, variant, top1, num_classes=classes)
        publish_to(export, tmp_path / "published")
    result = report(str(tmp_path / "published"), str(tmp_path / "report.html"), None)
    assert result["models"] == ["mobilenet_v2_1.0_224", VARIANT]
    page = Page(tmp_path / "report.html")
    row = " ".join(page.text[page.text.index("mobilenet_v2_1.0_224") :].split())
    assert row.startswith("mobilenet_v2_1.0_224 4 0.39 72.0 71.8 +0.2 100.0 91.0 +9.0")


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no export and publishes nothing"):
        report(str(tmp_path), str(tmp_path / "report.html"), None)
