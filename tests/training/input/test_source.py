"""All kinds of sources give the same images in the same order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from tests.training.small_runs import config_of, run
from training.config import SYNTHETIC, override
from training.input import source
from training.input.data import SINGLE_PROCESS
from training.input.source import Source
from training.workdir.run_record import Run

pytestmark = pytest.mark.slow

CACHE = "input.cache=true"


def first(source: Source, count: int) -> list[Any]:
    return list(source.batches(config_of(), SINGLE_PROCESS, 3).take(count).as_numpy_iterator())


def test_cached_images_are_the_records_images(records: Path) -> None:
    read = Source.open(str(records), config_of())
    cached = Source.open(str(records), config_of(CACHE))
    for one, other in zip(first(read, 4), first(cached, 4), strict=True):
        for left, right in zip(one, other, strict=True):
            assert np.array_equal(left, right)


def test_a_cache_larger_than_half_the_memory_is_refused(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CACHE_FRACTION", 1e-9)
    with pytest.raises(UsageError, match=r"input\.cache would keep 0\.0 GB"):
        Source.open(str(records), config_of(CACHE))


def test_a_cache_does_not_make_another_run(records: Path) -> None:
    manifest = Manifest.read(str(records))
    plain, cached = (Run.create(config_of(*settings), manifest, 1) for settings in ((), (CACHE,)))
    assert plain.config_digest == cached.config_digest


def test_synthetic_batches_have_the_form_of_real_ones(records: Path) -> None:
    real = Source.open(str(records), config_of())
    made_up = Source.open(SYNTHETIC, config_of())
    for config in (config_of(), override(config_of(), "augmentation.pixels=uint8")):
        assert (
            made_up.batches(config, SINGLE_PROCESS, 0).element_spec
            == real.batches(config, SINGLE_PROCESS, 0).element_spec
        )


def test_a_run_without_any_dataset_trains_to_its_end(tmp_path: Path) -> None:
    config = config_of("training.total_images=32")
    progress = run(config, SYNTHETIC, tmp_path)
    assert (progress.step, progress.complete) == (2, True)


@pytest.mark.parametrize(
    ("records_name", "overrides", "words"),
    [
        (SYNTHETIC, (), "--synthetic reads nothing"),
        ("records", (CACHE,), "leave out one of them"),
    ],
)
def test_what_does_not_go_together_is_refused(
    records: Path, records_name: str, overrides: tuple[str, ...], words: str
) -> None:
    where = SYNTHETIC if records_name == SYNTHETIC else str(records)
    with pytest.raises(UsageError, match=words):
        Source.open(where, config_of(*overrides), "grpc://localhost:1")
