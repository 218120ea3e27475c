"""The plan is a function of the set of images, and takes little memory for any number of them."""

from __future__ import annotations

import dataclasses
import os
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from preprocessing.errors import DataError, UsageError
from preprocessing.ingest_plan import ImageOptions, IngestPlan, default_num_shards, plan_ingest
from preprocessing.records.schema import SPLITS, ImageClass
from preprocessing.shuffle import decode_reference, encode_reference
from preprocessing.sources.references import ImageReference, Source


def reference(number: int, **changed: Any) -> ImageReference:
    boxes = ((0.1, 0.2, 1 / 3, 1.0),) * (number % 3)
    return dataclasses.replace(
        ImageReference(f"train/c/{number}.jpg", "/a.tar", number * 1024, number % 97, 1, boxes),
        **changed,
    )


def source(train: Iterable[ImageReference], validation: Iterable[ImageReference] = ()) -> Source:
    listings: dict[str, Callable[[], Iterator[ImageReference]]] = {
        "train": partial(iter, train),
        "validation": partial(iter, validation or [reference(0)]),
    }
    return Source(
        classes=(ImageClass(index=1, synset="c", text="class"),), description={}, listings=listings
    )


def planned(folder: Path, images: Source, **changed: Any) -> tuple[IngestPlan, dict[str, bytes]]:
    """Return the plan, and the content of its files by name."""
    options: dict[str, Any] = {
        "num_shards": {"train": 7, "validation": 1},
        "seed": 0,
        "image": ImageOptions(),
        **changed,
    }
    plan = plan_ingest(images, str(folder), **options)
    return plan, {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_reference_survives_its_plan_file() -> None:
    for odd in ("a\tb\n\r\u2028", 'quote"\\', "é日", os.fsdecode(b"\xff\xfe")):
        for number in range(3):
            image = reference(number, key=f"train/{odd}/x", path=f"/{odd}", version=odd)
            line = encode_reference(image)
            assert len(line.splitlines()) == 1
            assert decode_reference(line.rstrip(b"\n")) == image


def test_the_order_of_the_source_does_not_matter(tmp_path: Path) -> None:
    images = [reference(number) for number in range(500)]
    mixed = random.Random(1).sample(images, len(images))
    first = planned(tmp_path / "a", source(images))
    assert planned(tmp_path / "b", source(mixed)) == first
    assert planned(tmp_path / "c", source(images), seed=1)[1] != first[1]


def test_all_images_are_there_once_in_shards_that_differ_by_at_most_one(tmp_path: Path) -> None:
    images = [reference(number) for number in range(1001)]
    plan, _ = planned(tmp_path / "plans", source(images))
    shards = [
        list(shard.images(str(tmp_path / "plans")))
        for shard in plan.shards
        if shard.split == "train"
    ]
    assert sorted(image.key for shard in shards for image in shard) == sorted(
        image.key for image in images
    )
    assert {len(shard) for shard in shards} == {143}
    for shard, content in zip(plan.shards, shards, strict=False):
        assert shard.num_images == len(content)
        assert shard.num_bytes == sum(image.size for image in content)


@pytest.mark.parametrize(
    "changed",
    [{"key": "train/c/x.jpg"}, {"label": 2}, {"boxes": ((0.0, 0.0, 1.0, 1.0),)}],
    ids=lambda changed: next(iter(changed)),
)
def test_the_fingerprint_sees_every_change_besides_that_of_bytes(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    images = [reference(number) for number in range(50)]
    other = [*images[:-1], dataclasses.replace(images[-1], **changed)]
    plan, _ = planned(tmp_path / "a", source(images))
    assert planned(tmp_path / "b", source(other))[0].fingerprint != plan.fingerprint


@pytest.mark.parametrize(
    "options", [ImageOptions(decode_check=True), ImageOptions(short_side=9)], ids=str
)
def test_the_fingerprint_sees_options_but_not_where_the_source_is(
    tmp_path: Path, options: ImageOptions
) -> None:
    images = [reference(number) for number in range(50)]
    place: dict[str, Any] = {"path": "/elsewhere.tar", "offset": 7, "size": 5, "version": "later"}
    moved = [dataclasses.replace(image, **place) for image in images]
    plan, _ = planned(tmp_path / "a", source(images))
    assert planned(tmp_path / "b", source(moved))[0].fingerprint == plan.fingerprint
    other, _ = planned(tmp_path / "c", source(images), image=options)
    assert other.fingerprint != plan.fingerprint


def test_a_key_that_is_there_twice_is_named_with_both_places(tmp_path: Path) -> None:
    images = [reference(number) for number in range(300)]
    again = dataclasses.replace(images[123], path="/b.tar", offset=42)
    with pytest.raises(DataError) as refused:
        planned(tmp_path / "plans", source([*images, again]))
    for part in ("train/c/123.jpg", "byte 42 of /b.tar", f"byte {123 * 1024} of /a.tar"):
        assert part in str(refused.value)


def test_more_shards_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--train-shards 7 is more than the 6 train images"):
        planned(tmp_path / "plans", source([reference(number) for number in range(6)]))


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    def peak_bytes(num_images: int) -> int:
        images = (reference(number) for number in range(num_images))
        tracemalloc.start()
        planned_source = source(images)
        plan_ingest(
            planned_source,
            str(tmp_path / str(num_images)),
            num_shards=dict.fromkeys(SPLITS, 1),
            seed=0,
            image=ImageOptions(),
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(100)  # what is allocated once
    # 256 buffers of 64 KiB, whatever comes; 20,000 references themselves would be 6 MB more.
    few, many = peak_bytes(2_000), peak_bytes(22_000)
    assert many < few + 1_500_000


def test_imagenet_gets_the_published_number_of_shards() -> None:
    assert default_num_shards("train", 1_281_167) == 1024
    assert default_num_shards("validation", 50_000) == 128
    assert default_num_shards("train", 14_197_122) == 1024
    assert default_num_shards("validation", 1) == 1
