"""A diagnosis of what limits training on this machine: devices, cores or storage.

The same step is timed on three inputs. `synthetic` costs nothing, so it shows the devices
alone. `cached` reads encoded images from memory, so it adds decoding. `real` adds storage.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.planning.bench import Bench, Pace, exactly
from preprocessing import limits
from preprocessing.storage import contracts
from training.config import RunConfig
from training.input.records import Readable
from training.input.source import CachedRecords, Source, SyntheticRecords

logger = logging.getLogger(__name__)

NEARLY = 0.9  # this fraction of a faster input's speed counts as the same speed
CACHED_EXAMPLES = 2048  # 200 MB of ImageNet, enough to draw from
NUM_TIMINGS = 4  # three inputs, and the input without the step

Bound = Literal["device", "host", "input"]
EXPLANATION: dict[Bound, str] = {
    "device": "device-bound: the input keeps up; only faster devices or a cheaper step help",
    "host": "host-bound: even from memory, images do not come fast enough; give this machine "
    "more cores, decode on others (--data-service), or pre-resize the records",
    "input": "input-bound: reading is too slow; use faster storage, copy the records here, or "
    "keep them in memory (--set input.cache=true)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What limits training here, and the speeds that show it.

    Attributes:
        bound: See `verdict`.
        devices: Number of devices, one replica on each.
        images_per_second_per_device: The speed on each input.
        images_per_second_per_core: Of reading and decoding.
        cores: The number of cores that this process may use.
        cores_needed: The number of cores that keep all devices busy.
    """

    bound: Bound
    devices: int
    images_per_second_per_device: dict[str, float]
    images_per_second_per_core: float
    cores: int
    cores_needed: int


def diagnose(config: RunConfig, records: str, num_steps: int) -> dict[str, Any]:
    """Time `num_steps` steps on each input, and the input without the step.

    Returns:
        The fields of `Diagnosis`.
    """
    bench = Bench(config, Source.open(records, config))
    return contracts.to_json(diagnosis(bench, exactly(num_steps)))


def diagnosis(bench: Bench, pace: Pace) -> Diagnosis:
    """Time the steps of a bench on each input, each of `NUM_TIMINGS` timings at `pace`."""
    cached = dataclasses.replace(bench.source, train=_some_in_memory(bench.source.train))
    sources = {"synthetic": synthetic(bench.source), "cached": cached, "real": bench.source}
    per_device = {}
    for name, source in sources.items():
        per_device[name] = _rounded(bench.images_per_second_per_device(source, pace))
        logger.info("diagnose: %-9s %8.0f images/s per device", name, per_device[name])
    per_core = _rounded(bench.images_per_core_second(pace))
    bound = verdict(per_device)
    logger.info("diagnose: %s", EXPLANATION[bound])
    return Diagnosis(
        bound=bound,
        devices=bench.num_devices,
        images_per_second_per_device=per_device,
        images_per_second_per_core=per_core,
        cores=limits.num_cores(),
        cores_needed=cores_needed(per_device["synthetic"] * bench.num_devices, per_core),
    )


def synthetic(source: Source) -> Source:
    """Return a source of noise, as many examples of as many classes."""
    noise = SyntheticRecords(source.train.num_examples, len(source.manifest.classes))
    return dataclasses.replace(source, train=noise)


def verdict(images_per_second: Mapping[str, float]) -> Bound:
    """Return the first thing that slows the step down: `device`, `host` or `input`.

    Args:
        images_per_second: The speeds of the inputs `synthetic`, `cached` and `real`.
    """
    if images_per_second["real"] >= NEARLY * images_per_second["synthetic"]:
        return "device"
    if images_per_second["real"] >= NEARLY * images_per_second["cached"]:
        return "host"
    return "input"


def cores_needed(images_per_second: float, images_per_second_per_core: float) -> int:
    """Return the number of cores that decode as many images as the devices use."""
    return math.ceil(images_per_second / images_per_second_per_core)


def _rounded(value: float) -> float:
    """Round to four digits; no measurement is more precise."""
    return float(f"{value:.4g}")


def _some_in_memory(records: Readable) -> CachedRecords:
    first = _First(records, min(CACHED_EXAMPLES, records.num_examples))
    return CachedRecords(first, num_bytes=0)


class _First:
    """The first `num_examples` of some records."""

    def __init__(self, records: Readable, num_examples: int) -> None:
        self.num_examples = num_examples
        self.folder = records.folder
        self.read = records.read
        self.read_run = records.read_run
        self.view = records.view
        self.first_damaged = records.first_damaged
