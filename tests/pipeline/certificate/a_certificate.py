"""Figures of a machine that never was, whose verdicts are all good."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.certificate.certify import extrapolate
from pipeline.certificate.contract import Certificate, Figures, Subject
from pipeline.certificate.golden.check import GoldenFigure
from pipeline.certificate.machine import Machine, Memory
from pipeline.certificate.precision import Precision
from pipeline.certificate.verdicts import judge, worst
from pipeline.planning.diagnosis import Diagnosis
from training.config.recipes import published
from training.models.variants import Variant

CONFIG = published(Variant.parse("mobilenet_v2_1.0_224"))
GOOD = Figures(
    subject=Subject(
        variant="mobilenet_v2_1.0_224",
        recipe="published",
        batch_per_replica=96,
        records="gs://bucket/records",
        records_digest="d" * 64,
        train_images=1_281_167,
        bytes_per_image=115_432.5,
        minutes=15.0,
    ),
    machine=Machine(
        devices=("GPU:0", "GPU:1"),
        hardware=("Imagined 9000, compute capability 8.9",) * 2,
        cores=32,
        host_memory_bytes=128 * 2**30,
        system="Linux 6.1.0",
        tensorflow="2.21.0",
    ),
    golden=tuple(
        GoldenFigure(name=name, original=original, measured=original * (1 + 1e-6), allowed=1e-3)
        for name, original in (("logits on GPU:0", 2.858), ("cross-entropy", 2.4686))
    ),
    first_step_seconds=71.25,
    first_step_timeout_seconds=600,
    speed=Diagnosis(
        bound="device",
        devices=2,
        images_per_second_per_device={"synthetic": 2480.0, "cached": 2453.0, "real": 2411.0},
        images_per_second_per_core=317.4,
        cores=32,
        cores_needed=16,
    ),
    memory=Memory(
        host_peak_bytes=9 * 2**30,
        host_total_bytes=128 * 2**30,
        device_peak_bytes=11 * 2**30,
        device_total_bytes=24 * 2**30,
    ),
    precision=Precision(
        images=96,
        logits_difference=0.0432,
        explained_difference=0.0389,
        top1_agreement=0.9375,
        explained_agreement=0.9479,
        loss={"float32": 7.1875, "bfloat16": 7.1901},
        images_per_second={"float32": 1404.0, "bfloat16": 2533.0},
        training_uses="bfloat16",
    ),
    run=extrapolate(CONFIG, 4822.0, 2, 5.5),
    seconds={"golden": 61.5, "first_step": 75.1, "speed": 402.2, "precision": 301.9},
)


def changed(**parts: Any) -> Figures:
    """Return the good figures with changed fields of some parts."""
    new: dict[str, Any] = {
        name: dataclasses.replace(getattr(GOOD, name), **value)
        if dataclasses.is_dataclass(getattr(GOOD, name))
        else value
        for name, value in parts.items()
    }
    return dataclasses.replace(GOOD, **new)


def certificate_of(figures: Figures) -> Certificate:
    """Return the certificate of some figures."""
    checks = judge(figures)
    return Certificate(
        outcome=worst(checks),
        checks=checks,
        figures=figures,
        cores_needed_per_device=figures.cores_needed_per_device,
    )
