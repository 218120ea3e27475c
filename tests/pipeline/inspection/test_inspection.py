"""The figures of `inspect` are the counts of the records, and its pictures show them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.inspection.augmented import augmented
from pipeline.inspection.contact_sheet import CAPTION, TILE, contact_sheet
from pipeline.inspection.histograms import draw_histograms
from pipeline.inspection.inspection import AUGMENTED_SHEET, choose, inspect
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import SPLITS, Manifest
from tests.conftest import ingest
from tests.preprocessing.layouts import BOXES, write_folders, write_official
from training.config.recipes import recipe
from training.input.inception import train_view
from training.models.variants import Variant


def test_the_command_prints_json_and_draws(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made" / "here"
    assert main(["inspect", str(records), "--verify", "--output", str(output)]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["verified"] is True
    assert sorted(result["pictures"]) == sorted(str(path) for path in output.iterdir())
    assert all(Image.open(path).format == "PNG" for path in result["pictures"])
    assert "truncated JPEG" in printed.err
    assert "n99900007 seven" in printed.err


def test_augmented_images_are_those_that_training_would_see(records: Path, tmp_path: Path) -> None:
    config = recipe("published", Variant.parse("mobilenet_v2_0.35_96"))
    inspect(str(records), str(tmp_path), verify_bytes=False, config=config)
    assert Image.open(tmp_path / AUGMENTED_SHEET).format == "PNG"
    chosen = choose(str(records), Manifest.read(str(records)), "train")[:5]
    for number, shown in enumerate(augmented(chosen, config, 96)):
        jpeg = chosen[number].features[schema.ENCODED][0]
        expected = train_view(jpeg, config.augmentation, 96, [config.seed, number]).numpy()
        pixels = np.asarray(Image.open(io.BytesIO(shown.features[schema.ENCODED][0])))
        assert np.abs(pixels / 127.5 - 1 - expected).max() <= 1 / 127.5
        assert shown.tile().size == (TILE, TILE + CAPTION)


def test_counts_are_those_of_the_records(records: Path, tmp_path: Path) -> None:
    result = inspect(str(records), str(tmp_path), verify_bytes=False)
    counted: dict[str, Counter[str]] = {"train": Counter(), "validation": Counter()}
    for path in records.glob("*-of-*"):
        with open(path, "rb") as stream:
            for record in tfrecord.read_records(stream, path.name):
                synset = tfrecord.parse(record)[schema.SYNSET][0].decode()
                counted[path.name.split("-")[0]][synset] += 1
    assert result["class_counts"] == {
        synset: [counted[split][synset] for split in ("train", "validation")]
        for synset in sorted(counted["train"])
    }
    for split in ("train", "validation"):
        assert result["examples"][split] == counted[split].total()
        for name in ("source_bytes", "short_sides"):
            assert sum(count for _, count in result[name][split]) == counted[split].total()


def test_damaged_records_end_in_one_line_and_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records"
    ingest(write_folders(tmp_path / "source"), records)
    path = records / "train-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    arguments = ["inspect", str(records), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--verify"]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "train-00000-of-00001" in last
    assert not (tmp_path / "out").exists()


def test_duplicates_are_named(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "source")
    image = (source / "train/n01440764/n01440764_18.JPEG").read_bytes()
    (source / "train/n01443537/copy.JPEG").write_bytes(image)
    (source / "validation/n01443537/again.JPEG").write_bytes(image)
    ingest(source, tmp_path / "records")
    result = inspect(str(tmp_path / "records"), str(tmp_path / "out"), verify_bytes=True)
    assert result["duplicates"] == {
        "train": 1,
        "validation": 0,
        "between": 1,
        "named": [
            [
                "train/n01440764/n01440764_18.JPEG",
                "train/n01443537/copy.JPEG",
                "validation/n01443537/again.JPEG",
            ]
        ],
    }


def test_a_contact_sheet_shows_every_image_with_its_boxes(tmp_path: Path) -> None:
    ingest(write_official(tmp_path / "source"), tmp_path / "records")
    manifest = Manifest.read(str(tmp_path / "records"))
    chosen = choose(str(tmp_path / "records"), manifest, "train")
    assert len(chosen) == manifest.num_examples("train")
    for picture in chosen:
        tile = picture.tile()
        assert tile.size == (TILE, TILE + CAPTION)
        pixels = np.asarray(tile, int)[:TILE]
        red = np.argwhere((np.abs(pixels - (0xFF, 0x3B, 0x30)) < 2).all(axis=-1))
        name = picture.features[schema.FILENAME][0].decode()
        if name not in BOXES:
            assert not len(red)
            continue
        width, height = (picture.features[name][0] for name in (schema.WIDTH, schema.HEIGHT))
        scale = TILE / max(width, height)
        top, left = ((TILE - side * scale) / 2 for side in (height, width))
        expected = np.array(BOXES[name])
        for axis, offset, side, low, high in ((0, top, height, 1, 3), (1, left, width, 0, 2)):
            first = offset + expected[:, low].min() * side * scale
            last = offset + expected[:, high].max() * side * scale
            assert abs(red[:, axis].min() - first) <= 3
            assert abs(red[:, axis].max() - last) <= 3
    sheet = Image.open(io.BytesIO(contact_sheet(chosen, "train")))
    assert sheet.width >= 8 * TILE
    assert sheet.height >= 2 * (TILE + CAPTION)


def test_a_sample_is_spread_over_the_records_and_the_same_every_time(records: Path) -> None:
    manifest = Manifest.read(str(records))
    chosen = choose(str(records), manifest, "train")
    names = [picture.features[schema.FILENAME][0] for picture in chosen]
    labels = [picture.features[schema.LABEL][0] for picture in chosen]
    assert len(set(names)) == 48
    assert labels == sorted(labels)
    assert set(labels) == set(range(1, 11))
    again = choose(str(records), manifest, "train")
    assert [picture.features[schema.FILENAME][0] for picture in again] == names


def test_histograms_do_for_few_and_for_many_classes(records: Path) -> None:
    manifest = Manifest.read(str(records))
    few = Image.open(io.BytesIO(draw_histograms(manifest)))
    train, validation = (
        dataclasses.replace(of_split, class_counts=of_split.class_counts * 100)
        for of_split in map(manifest.statistics.of, SPLITS)
    )
    statistics = dataclasses.replace(manifest.statistics, train=train, validation=validation)
    many = dataclasses.replace(manifest, classes=manifest.classes * 100, statistics=statistics)
    drawn = Image.open(io.BytesIO(draw_histograms(many)))
    assert few.size == drawn.size
    assert few.tobytes() != drawn.tobytes()
