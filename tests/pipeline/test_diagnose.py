"""The diagnosis names what is slow, from figures that a real run measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.diagnose import diagnose, verdict
from tests.conftest import mobilenet
from tests.training.test_step import small_config


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


def test_a_diagnosis_measures_all_three_inputs_and_counts_the_cores(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = diagnose(small_config(), str(records), num_steps=4)
    speeds = found["images_per_second_per_device"]
    assert set(speeds) == {"synthetic", "cached", "real"}
    assert found["bound"] == verdict(speeds)
    needed = speeds["synthetic"] * found["devices"] / found["images_per_second_per_core"]
    assert found["cores_needed"] == pytest.approx(needed, abs=1, rel=0.02)  # rounded figures
    assert f"{found['bound']}-bound" in capsys.readouterr().err


def test_a_folder_without_records_is_refused_in_one_line(tmp_path: Path) -> None:
    outcome = mobilenet("diagnose", "--variant=mobilenet_v2_0.35_32", f"--records={tmp_path}")
    assert outcome.code == 2
    assert "dataset.json" in outcome.err.splitlines()[-1]
