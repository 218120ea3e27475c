"""The page of a certificate needs nothing else, and shows every figure and every verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.certificate.contract import Certificate, Figures
from pipeline.certificate.golden.check import GoldenFigure
from pipeline.certificate.page import leaves, render
from tests.pipeline.certificate.a_certificate import GOOD, certificate_of, changed
from tests.pipeline.publish.pages.test_html_report import Page

BAD = changed(
    golden=(GoldenFigure(name="logits on <CPU:0>", original=2.0, allowed=1e-3),),
    memory={"device_peak_bytes": None, "device_total_bytes": None},
    precision={"logits_difference": None, "loss": {}},
    speed={"bound": "input"},
    run={"price_per_hour": None, "cost": None},
)


@pytest.mark.parametrize("figures", [GOOD, BAD], ids=["good", "bad"])
def test_the_json_is_complete(figures: Figures) -> None:
    certificate = certificate_of(figures)
    assert Certificate.from_json(certificate.to_json(), "certificate.json") == certificate


@pytest.mark.parametrize("figures", [GOOD, BAD], ids=["good", "bad"])
def test_the_page_shows_every_figure_and_every_verdict(figures: Figures, tmp_path: Path) -> None:
    certificate = certificate_of(figures)
    path = tmp_path / "certificate.html"
    path.write_bytes(render(certificate))
    page = Page(path)
    assert not page.addresses, "not self-contained"
    words = " ".join(page.text.split())
    for name, value in leaves(certificate.to_json()):
        assert f"{name} {value}" in words
    verdicts = words[words.index("Verdicts") : words.index("Every figure")]
    for check in certificate.checks:
        assert f"{check.outcome} {check.name} {check.measured}" in verdicts
        assert f"Expected: {check.expected} {check.advice}" in verdicts
