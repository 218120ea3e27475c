"""A verdict follows from the figures, and says what was measured, expected and to be done."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.certificate.contract import Check
from pipeline.certificate.golden.check import GoldenFigure
from pipeline.certificate.verdicts import NOTHING, judge, worst
from tests.pipeline.certificate.a_certificate import GOOD, changed

WRONG = GoldenFigure(name="cross-entropy", original=2.4686, measured=2.5, allowed=1e-3)
NOT_FINITE = GoldenFigure(name="cross-entropy", original=2.4686, allowed=1e-3)
SPEEDS = "images_per_second_per_device"


def test_a_good_machine_passes_every_check() -> None:
    checks = judge(GOOD)
    assert worst(checks) == "passed"
    assert {check.advice for check in checks} == {NOTHING}


@pytest.mark.parametrize(
    ("parts", "name", "outcome", "words"),
    [
        ({"golden": (WRONG,)}, "golden figures", "failed", "2.5 instead of 2.4686"),
        ({"golden": (*GOOD.golden, NOT_FINITE)}, "golden figures", "failed", "1 of 3"),
        ({"first_step_seconds": 601.0}, "first step", "warned", "601.0 s"),
        ({"speed": {"bound": "input"}}, "input", "warned", "limit is the input"),
        ({"speed": {"bound": "host"}}, "input", "warned", "limit is the host"),
        ({"speed": {"cores": 15}}, "cores", "warned", "8 cores are needed"),
        ({"subject": {"bytes_per_image": 1500.0}}, "records", "warned", "1.5 kB"),
        ({"precision": {"logits_difference": 0.9}}, "bfloat16 results", "warned", "0.9 standard"),
        ({"precision": {"logits_difference": None}}, "bfloat16 results", "failed", "not finite"),
        ({"precision": {"loss": {"float32": 7.0}}}, "bfloat16 results", "failed", "not finite"),
        ({"precision": {"training_uses": "float32"}}, "bfloat16 speed", "warned", "1.80 times"),
        ({"memory": {"device_peak_bytes": 23 * 2**30}}, "device memory", "warned", "23.0 GiB of"),
        ({"memory": {"host_peak_bytes": 120 * 2**30}}, "host memory", "warned", "8.0 GiB are free"),
        ({"seconds": {"golden": 1200.0}}, "time", "warned", "1,200 s"),
    ],
)
def test_what_is_wrong_is_the_only_check_that_does_not_pass(
    parts: dict[str, Any], name: str, outcome: str, words: str
) -> None:
    (check,) = (check for check in judge(changed(**parts)) if check.outcome != "passed")
    assert (check.name, check.outcome) == (name, outcome)
    assert words in check.measured
    assert check.advice != NOTHING


def test_devices_that_do_not_tell_their_memory_pass() -> None:
    for memory in (
        {"device_peak_bytes": None, "device_total_bytes": None},
        {"device_total_bytes": None},
    ):
        assert worst(judge(changed(memory=memory))) == "passed"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "warned"], "warned"),
        (["failed", "warned"], "failed"),
    ],
)
def test_the_worst_verdict_decides(outcomes: list[Any], expected: str) -> None:
    checks = tuple(
        Check(name="n", outcome=outcome, measured="m", expected="e", advice="a")
        for outcome in outcomes
    )
    assert worst(checks) == expected
