"""The diagnosis names the bottleneck, from figures that a real run measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.planning.diagnosis import cores_needed, diagnose, verdict
from tests.conftest import mobilenet
from tests.training.small_steps import small_config


@pytest.mark.parametrize(
    ("synthetic", "cached", "real", "bound"),
    [
        (1000, 990, 980, "device"),
        (1000, 400, 390, "host"),
        (1000, 950, 300, "input"),
        (1000, 500, 100, "input"),
    ],
)
def test_the_first_thing_that_slows_the_step_is_named(
    synthetic: float, cached: float, real: float, bound: str
) -> None:
    assert verdict({"synthetic": synthetic, "cached": cached, "real": real}) == bound


@pytest.mark.parametrize(
    ("devices", "core", "needed"), [(1600, 800, 2), (1601, 800, 3), (20_000, 250, 80), (5, 800, 1)]
)
def test_no_core_too_few_is_advised(devices: float, core: float, needed: int) -> None:
    assert cores_needed(devices, core) == needed


def test_a_diagnosis_measures_all_three_inputs_and_counts_the_cores(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = diagnose(small_config(), str(records), num_steps=4)
    speeds = found["images_per_second_per_device"]
    assert set(speeds) == {"synthetic", "cached", "real"}
    assert found["bound"] == verdict(speeds)
    demand = speeds["synthetic"] * found["devices"]
    assert found["cores_needed"] == cores_needed(demand, found["images_per_second_per_core"])
    assert f"{found['bound']}-bound" in capsys.readouterr().err


def test_a_folder_without_records_is_refused_in_one_line(tmp_path: Path) -> None:
    outcome = mobilenet("diagnose", "--variant=shallow_0.35_32", f"--records={tmp_path}")
    assert outcome.code == 2
    assert "dataset.json" in outcome.err.splitlines()[-1]
