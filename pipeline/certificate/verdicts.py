"""Verdicts: what was measured, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.certificate.contract import Check, Figures, Outcome
from pipeline.certificate.machine import gib
from pipeline.planning.diagnosis import EXPLANATION, NEARLY
from pipeline.planning.run_plan import IMAGENET_BYTES_PER_IMAGE

MAX_EXPLAINED = 3  # times the difference that rounding the weights alone makes
MAX_MEMORY = 0.9  # fraction of what there is
MAX_TIME = 1.25  # times --minutes
MIN_BYTES = 0.5  # fraction of ImageNet's bytes per image
NOTHING = "Nothing to do."
WRONG_RESULTS = (
    "Do not train here: check the driver, the TensorFlow build and the memory of the device, and "
    "certify again."
)


def judge(figures: Figures) -> tuple[Check, ...]:
    """Return the verdicts on a machine."""
    return tuple(check(figures) for check in _CHECKS)


def worst(checks: tuple[Check, ...]) -> Outcome:
    """Return the worst outcome."""
    outcomes = {check.outcome for check in checks}
    if "failed" in outcomes:
        return "failed"
    return "warned" if "warned" in outcomes else "passed"


def _check(name: str, passed: bool, *, measured: str, expected: str, remedy: str) -> Check:
    """Return a verdict that warns, and advises the remedy, unless the check passed."""
    return Check(
        name=name,
        outcome="passed" if passed else "warned",
        measured=measured,
        expected=expected,
        advice=NOTHING if passed else remedy,
    )


def _golden(figures: Figures) -> Check:
    wrong = [figure for figure in figures.golden if not figure.agrees]
    count = len(figures.golden)
    if wrong:
        first = wrong[0]
        value = "not finite" if first.measured is None else f"{first.measured:.8g}"
        measured = (
            f"{len(wrong)} of {count} figures of the original code disagree: {first.name} is "
            f"{value} instead of {first.original:.8g}."
        )
    else:
        farthest = max(figure.difference / figure.allowed for figure in figures.golden)
        measured = (
            f"All {count} figures of the original code agree; the farthest uses "
            f"{100 * farthest:.2g} % of its tolerance."
        )
    return Check(
        name="golden figures",
        outcome="failed" if wrong else "passed",
        measured=measured,
        expected="Logits and losses differ from the original's by no more than rounding explains.",
        advice=WRONG_RESULTS if wrong else NOTHING,
    )


def _first_step(figures: Figures) -> Check:
    seconds, timeout_seconds = figures.first_step_seconds, figures.first_step_timeout_seconds
    in_time = seconds <= timeout_seconds
    return _check(
        "first step",
        in_time,
        measured=f"The first step took {seconds:.1f} s, with tracing and compilation.",
        expected=f"Training gives up a first step after {timeout_seconds:g} s "
        "(loop.startup_timeout_seconds).",
        remedy="Keep the compiled kernels on a disk that survives restarts (CUDA_CACHE_PATH), or "
        "raise loop.startup_timeout_seconds.",
    )


def _input(figures: Figures) -> Check:
    speeds = figures.speed.images_per_second_per_device
    bound = figures.speed.bound
    _, _, remedy = EXPLANATION[bound].partition("; ")
    return _check(
        "input",
        bound == "device",
        measured=f"One device trains on {speeds['real']:,.4g} images/s of the records, on "
        f"{speeds['cached']:,.4g} from memory and on {speeds['synthetic']:,.4g} of noise: the "
        f"limit is the {bound}.",
        expected=f"The records are read at {100 * NEARLY:g} % of the speed of noise or faster.",
        remedy=_sentence(remedy),
    )


def _cores(figures: Figures) -> Check:
    speed = figures.speed
    enough = speed.cores >= speed.cores_needed
    return _check(
        "cores",
        enough,
        measured=f"One core decodes {speed.images_per_second_per_core:,.4g} images/s, so "
        f"{figures.cores_needed_per_device:g} cores are needed per device.",
        expected=f"There are at least {speed.cores_needed} cores for {speed.devices} "
        f"device{'s' * (speed.devices > 1)}; there are {speed.cores}.",
        remedy="Take a machine with more cores per device, decode on others (--data-service), or "
        "shrink the images once (prepare --short-side 256).",
    )


def _records(figures: Figures) -> Check:
    size = figures.subject.bytes_per_image
    alike = size >= MIN_BYTES * IMAGENET_BYTES_PER_IMAGE
    return _check(
        "records",
        alike,
        measured=f"A record has {size / 1000:,.4g} kB on average.",
        expected=f"ImageNet's images have {IMAGENET_BYTES_PER_IMAGE / 1000:,.4g} kB, for which "
        "hours, cost and cores are meant.",
        remedy="Certify with records of the images that you will train on; smaller ones are "
        "decoded faster.",
    )


def _rounding(figures: Figures) -> Check:
    precision = figures.precision
    allowed = MAX_EXPLAINED * precision.explained_difference
    expected = (
        f"They differ by at most {allowed:.2g}, {MAX_EXPLAINED} times as much as rounding the "
        f"weights alone explains, with which {100 * precision.explained_agreement:.3g} % keep "
        "their best class."
    )
    if precision.logits_difference is None or len(precision.loss) < 2:
        return Check(
            name="bfloat16 results",
            outcome="failed",
            measured="A loss or a logit is not finite.",
            expected=expected,
            advice=WRONG_RESULTS,
        )
    alike = precision.logits_difference <= allowed
    return _check(
        "bfloat16 results",
        alike,
        measured=f"On equal weights the logits differ by {precision.logits_difference:.2g} "
        f"standard deviations, {100 * precision.top1_agreement:.3g} % of {precision.images} images "
        f"keep their best class, and the loss is {precision.loss['bfloat16']:.5g} instead of "
        f"{precision.loss['float32']:.5g}.",
        expected=expected,
        remedy="Train in float32 here: --set compute.bfloat16=off.",
    )


def _precision_speed(figures: Figures) -> Check:
    precision = figures.precision
    speeds = precision.images_per_second
    used = precision.training_uses
    unused = "float32" if used == "bfloat16" else "bfloat16"
    best = speeds[used] >= NEARLY * speeds[unused]
    return _check(
        "bfloat16 speed",
        best,
        measured=f"Forward and backward pass make {speeds['bfloat16']:,.4g} images/s in bfloat16 "
        f"and {speeds['float32']:,.4g} in float32, {speeds['bfloat16'] / speeds['float32']:.2f} "
        "times as many.",
        expected=f"Training uses {used} here, and it is the faster one.",
        remedy=f"Train in {unused} here: --set compute.bfloat16="
        f"{'on' if unused == 'bfloat16' else 'off'}.",
    )


def _device_memory(figures: Figures) -> Check:
    peak, total = figures.memory.device_peak_bytes, figures.memory.device_total_bytes
    expected = f"Training uses at most {100 * MAX_MEMORY:g} % of the memory of a device."
    if peak is None or total is None:
        return Check(
            name="device memory",
            outcome="passed",
            measured="The devices have no memory of their own."
            if peak is None
            else f"At most {gib(peak)} were used; the driver does not tell of how many.",
            expected=expected,
            advice=NOTHING,
        )
    return _memory_check(
        "device memory",
        peak,
        total,
        expected,
        "Lower training.batch_per_replica, or set compute.recompute=true.",
    )


def _host_memory(figures: Figures) -> Check:
    return _memory_check(
        "host memory",
        figures.memory.host_peak_bytes,
        figures.memory.host_total_bytes,
        f"The process uses at most {100 * MAX_MEMORY:g} % of what its container or machine allows.",
        "Raise the memory limit of the container, or lower training.batch_per_replica.",
    )


def _memory_check(name: str, peak: int, total: int, expected: str, remedy: str) -> Check:
    fits = peak <= MAX_MEMORY * total
    return _check(
        name,
        fits,
        measured=f"At most {gib(peak)} of {gib(total)} were used; {gib(total - peak)} are free.",
        expected=expected,
        remedy=remedy,
    )


def _time(figures: Figures) -> Check:
    seconds, allowed = sum(figures.seconds.values()), 60 * figures.subject.minutes
    in_time = seconds <= MAX_TIME * allowed
    return _check(
        "time",
        in_time,
        measured=f"The measurements took {seconds:,.0f} s.",
        expected=f"They take about {allowed:,.0f} s (--minutes); in less time than they need, "
        "speeds follow from a few steps and are imprecise.",
        remedy="Certify again with more --minutes.",
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


_CHECKS: tuple[Callable[[Figures], Check], ...] = (
    _golden,
    _first_step,
    _input,
    _cores,
    _records,
    _rounding,
    _precision_speed,
    _device_memory,
    _host_memory,
    _time,
)
