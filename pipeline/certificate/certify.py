"""`mobilenet certify`: everything that is measured, judged and written, within a time."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.certificate import machine, page, precision, verdicts
from pipeline.certificate.budget import PARTS, Budget
from pipeline.certificate.contract import Certificate, Extrapolation, Figures, Subject
from pipeline.certificate.golden import check
from pipeline.certificate.interruption import uninterrupted
from pipeline.planning.bench import Bench, during
from pipeline.planning.diagnosis import NUM_TIMINGS, diagnosis, synthetic
from pipeline.planning.run_plan import Plan
from preprocessing import storage
from preprocessing.errors import CheckFailedError
from preprocessing.records.imagenet import NUM_TRAIN_IMAGES
from preprocessing.records.schema import Manifest
from training.config import RunConfig
from training.input.source import Source

logger = logging.getLogger(__name__)

JSON = "certificate.json"
PAGE = "certificate.html"
MEANING = {
    "golden": "one step against the original's figures",
    "first_step": "building and compiling the step",
    "speed": "images per second from noise, memory and records",
    "precision": "bfloat16 against float32",
}


def certify(
    config: RunConfig,
    records: str,
    output: str,
    *,
    minutes: float,
    price_per_hour: float | None,
) -> Certificate:
    """Measure this machine in about `minutes`, and write the certificate into `output`.

    Raises:
        CheckFailedError: Results are wrong; the certificate, which says so, was written.
    """
    clock = Parts(minutes)
    figures = measure(config, records, clock, price_per_hour)
    checks = verdicts.judge(figures)
    certificate = Certificate(
        outcome=verdicts.worst(checks),
        checks=checks,
        figures=figures,
        cores_needed_per_device=figures.cores_needed_per_device,
    )
    conclude(certificate, output)
    return certificate


class Parts:
    """The parts of a certificate: their shares of the time, the time they took, and progress."""

    def __init__(self, minutes: float) -> None:
        self._budget = Budget(60 * minutes, PARTS)
        self.minutes = minutes
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[float]:
        """Yield the seconds that the part may take, and note those that it took."""
        share = self._budget.share_seconds(name)
        number = list(PARTS).index(name) + 1
        logger.info("certify: %d of %d, %s, about %.0f s", number, len(PARTS), MEANING[name], share)
        since = time.monotonic()
        yield share
        self.seconds[name] = round(time.monotonic() - since, 1)


def measure(config: RunConfig, records: str, clock: Parts, price_per_hour: float | None) -> Figures:
    """Return all measurements, each in its share of the time."""
    source = Source.open(records, config)
    here = machine.machine()
    with clock.part("golden"):
        golden = check.check(list(here.devices))
    machine.forget_device_peaks()
    with clock.part("first_step"):
        bench = Bench(config, source)
        first_step_seconds = bench.first_step_seconds(synthetic(source))
    with clock.part("speed") as seconds:
        speed = diagnosis(bench, during(seconds / NUM_TIMINGS))
    memory = machine.memory()
    del bench
    gc.collect()  # functions and variables refer to each other; now they leave the device
    with clock.part("precision") as seconds:
        precisions = precision.compare(config, source, here.devices[0], seconds)
    return Figures(
        subject=_subject(config, records, source.manifest, clock),
        machine=here,
        golden=golden,
        first_step_seconds=round(first_step_seconds, 2),
        first_step_timeout_seconds=config.loop.startup_timeout_seconds,
        speed=speed,
        memory=memory,
        precision=precisions,
        run=extrapolate(
            config,
            speed.images_per_second_per_device["real"] * speed.devices,
            speed.devices,
            price_per_hour,
        ),
        seconds=clock.seconds,
    )


def extrapolate(
    config: RunConfig, images_per_second: float, num_devices: int, price_per_hour: float | None
) -> Extrapolation:
    """Return hours and cost of the whole run on ImageNet at a speed of all devices together."""
    plan = Plan(config=config, num_replicas=num_devices, num_examples=NUM_TRAIN_IMAGES)
    planned = plan.summary(images_per_second, price_per_hour)
    return Extrapolation(
        steps=planned["steps"],
        images=planned["images_read"],
        images_per_second=images_per_second,
        hours=planned["hours"],
        price_per_hour=price_per_hour,
        cost=planned.get("cost"),
    )


def conclude(certificate: Certificate, output: str) -> None:
    """Write the certificate, and tell of it.

    Raises:
        CheckFailedError: Results are wrong.
    """
    write(certificate, output)
    logger.info("%s", summary(certificate))
    wrong = [verdict for verdict in certificate.checks if verdict.outcome == "failed"]
    if wrong:
        page_path = storage.join(output, PAGE)
        raise CheckFailedError(f"{wrong[0].name}: {wrong[0].measured} See {page_path}")


def write(certificate: Certificate, output: str) -> None:
    """Write page and JSON, the JSON last: a folder without it has no certificate."""
    path = storage.join(output, JSON)
    content = page.render(certificate)
    with uninterrupted():
        storage.make_folder(output)
        storage.remove(path)
        storage.write_bytes(storage.join(output, PAGE), content)
        storage.write_json(path, certificate.to_json())


def summary(certificate: Certificate) -> str:
    """Return the verdicts for the terminal, one in a line."""
    lines = [f"{certificate.figures.machine.hardware[0]}: {certificate.outcome}"]
    for verdict in certificate.checks:
        lines.append(f"{verdict.outcome:<7} {verdict.name:<16} {verdict.measured}")
        if verdict.outcome != "passed":
            lines.append(f"{'':24} {verdict.advice}")
    run = certificate.figures.run
    cost = "" if run.cost is None else f", cost {run.cost:,.2f}"
    lines.append(
        f"{certificate.figures.subject.recipe} reads {run.images:,} images: {run.hours:,.1f} hours "
        f"at {run.images_per_second:,.0f} images/s{cost}"
    )
    return "\n".join(lines)


def _subject(config: RunConfig, records: str, manifest: Manifest, clock: Parts) -> Subject:
    images = manifest.num_examples("train")
    num_bytes = sum(shard.bytes for shard in manifest.shards["train"])
    return Subject(
        variant=config.variant.name,
        recipe=config.recipe,
        batch_per_replica=config.training.batch_per_replica,
        records=records,
        records_digest=manifest.digest,
        train_images=images,
        bytes_per_image=round(num_bytes / images, 1),
        minutes=clock.minutes,
    )
