"""Our pages in a real browser, on a phone and on a desk, light and dark."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from pipeline.certificate.page import render
from pipeline.export import directory, per_image
from pipeline.export.predictions import Predictions
from pipeline.publish.pages.html_report import report
from tests.browser import programs
from tests.browser.looks import SCREENS, Screen, look
from tests.pipeline.an_export import make_export, metrics_of, write_metrics
from tests.pipeline.certificate.test_page import BAD, certificate_of
from tests.pipeline.publish.pages.test_html_report import pictured_export
from tests.pipeline.publish.publishing import publish_to

pytestmark = pytest.mark.slow

NETWORKS = (
    ("mobilenet_v2_1.0_224", 0.72),
    ("mobilenet_v2_0.75_160", 0.66),
    ("mobilenet_v1_1.0_224", 0.71),
)
LONG_NAME = "black-footed ferret, ferret, Mustela nigripes"
DESK = Screen(width=1280, scheme="light")
BREAKS = {
    "scrolls sideways": '<div style="width: 2000px">wide</div>',
    "overlap": '<p style="margin-bottom: -38px">one</p><p>two</p>',
    "contrast": '<p style="color: #999">pale</p>',
    "cut off": '<svg aria-label="a plot" viewBox="0 0 9 9"><text x="8" y="5">text</text></svg>',
    "no alternative text": '<svg viewBox="0 0 9 9"></svg>',
    "not shown": '<img alt="a picture" style="width: 50px" src="data:image/png;base64,AAAA">',
    "invisible": '<svg aria-label="a plot" style="width: 0"></svg>',
    "console": "<script>console.error('no')</script>",
    "error": "<script>missing()</script>",
    "loads": '<img alt="a picture" src="http://127.0.0.1:9/picture.png">',
    "axe": "<button></button>",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with programs.started() as browser:
            yield browser
    except programs.NoBrowserError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pages(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make pages of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    pictured, _ = pictured_export(records, folder / "pictured")
    report(str(pictured), str(folder / "report.html"), str(records))
    report(str(_many_classes(folder / "many")), str(folder / "classes.html"), None)
    publish_to(make_export(folder / "only"), folder / "published")
    report(str(folder / "published"), str(folder / "one.html"), None)
    for variant, top1 in NETWORKS:
        export = make_export(folder / variant, variant, top1, num_classes=1000)
        publish_to(export, folder / "published")
    report(str(folder / "published"), str(folder / "several.html"), None)
    (folder / "certificate.html").write_bytes(render(certificate_of(BAD)))
    return folder


def _many_classes(folder: Path) -> Path:
    """Make an export with more and longer classes than a matrix can show."""
    export = make_export(folder)
    names = ("background", *(f"{LONG_NAME} {number}" for number in range(40)))
    (export / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    rng = np.random.default_rng(3)
    scores = rng.random((200, len(names)), np.float32)
    predictions = Predictions.of(scores, rng.integers(1, len(names), 200))
    per_image.write(str(export), {"checkpoint": predictions}, len(names))
    metrics = metrics_of(export)
    files = directory.file_digests(str(export))
    write_metrics(export, dataclasses.replace(metrics, files=files))
    return export


@pytest.mark.parametrize("screen", SCREENS, ids=str)
@pytest.mark.parametrize("name", ["report", "classes", "one", "several", "certificate"])
def test_a_page_looks_right(
    browser: Browser, pages: Path, tmp_path: Path, name: str, screen: Screen
) -> None:
    """Nothing is cut off, covered, pale, without text for the blind, or loaded from elsewhere."""
    seen = look(browser, pages / f"{name}.html", screen)
    (tmp_path / f"{name}-{screen}.png").write_bytes(seen.picture)
    assert not seen.faults, tmp_path
    assert (seen.brightness < 0.5) == (screen.scheme == "dark")


def test_what_is_wrong_is_noticed(browser: Browser, pages: Path, tmp_path: Path) -> None:
    """Each check fails where what it looks for is wrong."""
    page = (pages / "one.html").read_text()
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("</main>", f"{''.join(BREAKS.values())}</main>"))
    faults = look(browser, broken, DESK).faults
    for fault in BREAKS:
        assert any(found.startswith(fault) for found in faults), (fault, faults)
