"""Counts are exact, and do not depend on how the images are divided into shards."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter

import pytest

from preprocessing.records import imagenet
from preprocessing.records.schema import (
    Duplicates,
    ImageClass,
    Manifest,
    Reject,
    Shard,
    SplitStatistics,
    Statistics,
)
from preprocessing.records.statistics import ShardStatistics, bin_of, edge_of, merge

EVEN = SplitStatistics(
    class_counts=(50,) * 1000, source_bytes=(), short_sides=(), most_pixels=0, boxes=0
)


def count(contents: list[bytes], labels: list[int]) -> ShardStatistics:
    counted = ShardStatistics()
    for content, label in zip(contents, labels, strict=True):
        counted.add(content, height=len(content), width=300, label=label, boxes=label % 3)
    return counted


def key_at(split: str, shard: int, record: int) -> str:
    return f"{split} {shard}.{record}"


def test_every_size_is_in_the_bin_between_its_edges() -> None:
    for value in (*range(1, 3000), 10**6, 10**9):
        assert edge_of(bin_of(value)) <= value < edge_of(bin_of(value) + 1)


def test_statistics_survive_their_report() -> None:
    counted = count([b"a" * 9, b"b" * 40], [3, 1])
    assert ShardStatistics.from_json(json.loads(json.dumps(counted.to_json()))) == counted


def test_counts_are_those_of_a_plain_count_however_shards_are_cut() -> None:
    chance = random.Random(5)
    contents = [bytes([chance.randrange(40)]) * chance.randrange(1, 60) for _ in range(700)]
    labels = [chance.randrange(1, 8) for _ in contents]
    train, validation = contents[:500], contents[500:]
    unique = set(train) & set(validation)
    expected = {
        "train": len(train) - len(set(train)),
        "validation": len(validation) - len(set(validation)),
        "between": sum(content in unique for content in validation),
    }
    for size in (500, 100, 7):
        merged = merge(
            {
                split: [
                    count(kept[start : start + size], of[start : start + size])
                    for start in range(0, len(kept), size)
                ]
                for split, kept, of in (
                    ("train", train, labels[:500]),
                    ("validation", validation, labels[500:]),
                )
            },
            7,
            key_at,
        )
        assert {name: merged.duplicates.counts()[name] for name in expected} == expected
        counts = Counter(labels[:500])
        assert merged.train.class_counts == tuple(counts[label] for label in range(1, 8))
        assert merged.train.boxes == sum(label % 3 for label in labels[:500])
        assert sum(count for _, count in merged.train.source_bytes) == 500
        assert merged.train.most_pixels == 300 * max(map(len, train))


def test_duplicates_are_named_by_shard_and_record() -> None:
    one, two = b"1" * 30, b"2" * 30
    merged = merge(
        {
            "train": [count([b"x", one], [1, 1]), count([two, b"y"], [1, 1])],
            "validation": [count([b"z"], [1]), count([one, b"w", one], [1, 1, 1])],
        },
        1,
        key_at,
    )
    assert merged.duplicates == Duplicates(
        train=0,
        validation=1,
        between=2,
        named=(("train 0.1", "validation 1.0", "validation 1.2"),),
    )


def test_nothing_at_all_has_no_duplicates() -> None:
    merged = merge({"train": [], "validation": []}, 2, key_at)
    assert merged.duplicates == Duplicates(train=0, validation=0, between=0, named=())
    assert merged.train.class_counts == (0, 0)


@pytest.fixture
def whole_imagenet() -> Manifest:
    """Return a manifest with the totals of the real ImageNet."""
    return Manifest(
        schema_version=1,
        digest="",
        fingerprint="",
        classes=tuple(ImageClass(index=i, synset=f"n{i:08d}", text="") for i in range(1, 1001)),
        shards={
            split: (Shard(file="", examples=examples, bytes=0, sha256=""),)
            for split, examples in (("train", 1_281_167), ("validation", 50_000))
        },
        rejects=(),
        repaired={"CMYK JPEG": 22, "PNG": 1},
        record_offsets="",
        statistics=Statistics(
            train=EVEN,
            validation=EVEN,
            duplicates=Duplicates(train=0, validation=0, between=0, named=()),
        ),
        source={},
        options={},
        versions={},
    )


def test_the_totals_of_the_real_imagenet_are_confirmed(whole_imagenet: Manifest) -> None:
    assert imagenet.verdict(whole_imagenet) == imagenet.Verdict(confirmed=True, differences=())


def test_what_differs_from_the_real_imagenet_is_named(whole_imagenet: Manifest) -> None:
    broken = dataclasses.replace(
        whole_imagenet,
        shards={
            **whole_imagenet.shards,
            "train": (Shard(file="", examples=1_281_160, bytes=0, sha256=""),),
        },
        repaired={"CMYK JPEG": 21, "GIF": 2, "PNG": 1},
        rejects=(Reject(key="train/n/x", reason="empty"),) * 7,
    )
    assert imagenet.verdict(broken) == imagenet.Verdict(
        confirmed=False,
        differences=(
            "train images: 1281160, ImageNet has 1281167",
            "CMYK JPEG repaired: 21, ImageNet has 22",
            "GIF repaired: 2, ImageNet has 0",
            "rejected images: 7, ImageNet has 0",
        ),
    )


def test_other_images_are_not_measured_against_imagenet(whole_imagenet: Manifest) -> None:
    classes = whole_imagenet.classes
    named = dataclasses.replace(classes[0], synset="cats")
    for other in (classes[:100], (named, *classes[1:])):
        assert imagenet.verdict(dataclasses.replace(whole_imagenet, classes=other)) is None
