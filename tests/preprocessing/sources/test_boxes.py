"""Boxes are those of slim's script, and a wrong annotation is refused by name."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from preprocessing.errors import DataError
from preprocessing.sources.boxes import ArchivedBoxes, boxes_of
from tests.preprocessing.layouts import Annotation, tar, train_boxes

KNOWN = ("n01440764", "n01443537")


def by_the_book(xml: bytes, folder: str) -> list[str]:
    """Return lines of slim's sorted CSV without the file name, following its description."""
    root = ElementTree.fromstring(xml)
    width, height = (int(next(root.iter(name)).text or "") for name in ("width", "height"))
    label = next((element.text for element in root.iter("name")), None)
    lines = []
    for box in root.iter("bndbox"):
        xs = sorted(int(box.findtext(name, "")) / width for name in ("xmin", "xmax"))
        ys = sorted(int(box.findtext(name, "")) / height for name in ("ymin", "ymax"))
        xs, ys = [min(max(x, 0), 1) for x in xs], [min(max(y, 0), 1) for y in ys]
        if xs[0] >= xs[1] or ys[0] >= ys[1] or (label != folder and label in KNOWN):
            continue
        lines.append(f"{xs[0]:.4f},{ys[0]:.4f},{xs[1]:.4f},{ys[1]:.4f}")
    return sorted(lines)


def test_boxes_are_the_lines_of_slims_csv() -> None:
    random = np.random.default_rng(3)
    kept = 0
    for _ in range(400):
        size = tuple(map(int, random.integers(2, 700, 2)))
        corners = random.integers(-30, 700, (random.integers(0, 5), 4))
        corners[corners == -1] = 0
        name = str(random.choice([*KNOWN, "n99999999", "Scottish_deerhound"]))
        objects = tuple((name, *map(int, box)) for box in corners)
        xml = Annotation(size, objects).xml("n01440764", "n01440764_1")  # type: ignore[arg-type]
        lines = [
            ",".join(f"{value:.4f}" for value in box)
            for box in boxes_of(xml, "n01440764", KNOWN, "x")
        ]
        assert lines == by_the_book(xml, "n01440764")
        kept += len(lines)
    assert kept > 200


def test_an_xmin_of_minus_one_ends_the_list_as_it_does_for_slim() -> None:
    box = ("n01440764", 10, 10, 50, 50)
    objects = (box, ("n01440764", -1, 10, 50, 50), box)
    xml = Annotation((100, 100), objects).xml("n01440764", "n01440764_1")
    assert boxes_of(xml, "n01440764", KNOWN, "x") == ((0.1, 0.1, 0.5, 0.5),)


BILLION_LAUGHS = b"""<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<annotation><size><width>&b;</width><height>3</height></size></annotation>"""
FILE_READER = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><width>&x;</width></a>"""
GOOD = Annotation((100, 80), (("n01440764", 10, 10, 50, 50),)).xml("n01440764", "n01440764_1")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"", "is not XML"),
        (GOOD[:-30], "is not XML"),
        (BILLION_LAUGHS, "declares a document type"),
        (FILE_READER, "declares a document type"),
        (GOOD.replace(b"<width>100</width>", b""), "lacks the size"),
        (GOOD.replace(b"<width>100", b"<width>0"), "an image of 0x80"),
        (GOOD.replace(b"<xmax>50", b"<xmax>fifty"), "fifty"),
        (GOOD.replace(b"<ymax>50</ymax>", b""), "lacks a corner"),
        (GOOD + b" " * (1 << 20), "bytes"),
        (b"<?xml version='1.0' encoding='klingon'?>" + GOOD, "not"),
    ],
)
def test_what_is_no_annotation_is_named_and_never_expanded(xml: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^n1/x.xml .*{message}"):
        boxes_of(xml, "n01440764", KNOWN, "n1/x.xml")


def test_an_annotation_without_objects_has_no_boxes() -> None:
    assert boxes_of(Annotation((5, 5), ()).xml("n01440764", "a"), "n01440764", KNOWN, "x") == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "not a complete .tar.gz"),
        (train_boxes(nested=False)[:300], "not a complete"),
        (gzip.compress(b"no tar" * 200, mtime=0), "not a complete tar"),
        (gzip.compress(tar({"n01440764/a.xml": b"<a"})), "a.xml in .* is not XML"),
        (gzip.compress(tar({"../a.xml": GOOD})), "leads out of it"),
    ],
)
def test_a_damaged_archive_of_boxes_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        ArchivedBoxes(str(path), KNOWN, lambda path: path.split("/")[0]).of("a.JPEG")
