"""A diagnosis of what limits training on this machine: devices, cores or storage.

The same step is timed on three inputs. `synthetic` costs nothing, so it shows the devices
alone. `cached` reads encoded images from memory, so it adds decoding. `real` adds storage.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf

from preprocessing import limits
from training.config import RunConfig
from training.input.data import SINGLE_PROCESS, Share
from training.input.records import Readable
from training.input.source import CachedRecords, Source, SyntheticRecords
from training.loop.step import TrainSteps
from training.optimization.state import TrainingState

logger = logging.getLogger(__name__)

NEARLY = 0.9  # this fraction of a faster input's speed counts as the same speed
CACHED_EXAMPLES = 2048  # 200 MB of ImageNet, enough to draw from


def diagnose(config: RunConfig, records: str, num_steps: int) -> dict[str, Any]:
    """Time `num_steps` steps on each input, and the input without the step.

    Returns:
        `bound` (see `verdict`), `images_per_second_per_device` of each input,
        `images_per_second_per_core` of reading and decoding, the number of `cores` here and the
        number of `cores_needed` to keep the devices busy.
    """
    strategy = tf.distribute.MirroredStrategy()
    real = Source.open(records, config)
    sources = {
        "synthetic": dataclasses.replace(
            real, train=SyntheticRecords(real.train.num_examples, len(real.manifest.classes))
        ),
        "cached": dataclasses.replace(real, train=_some_in_memory(real.train)),
        "real": real,
    }
    with strategy.scope():
        state = TrainingState(
            config,
            num_outputs=len(real.manifest.classes) + 1,
            num_examples=real.train.num_examples,
            num_replicas=strategy.num_replicas_in_sync,
        )
    train_steps = TrainSteps(strategy, state, config)
    per_device = {}
    for name, source in sources.items():
        seconds = _seconds(strategy, train_steps, source, config, num_steps)
        per_device[name] = _rounded(config.training.batch_per_replica * num_steps / seconds)
        logger.info("diagnose: %-9s %8.0f images/s per device", name, per_device[name])
    per_core = _rounded(_images_per_core_second(real, config, num_steps))
    bound = verdict(per_device)
    logger.info("diagnose: %s", EXPLANATION[bound])
    return {
        "bound": bound,
        "devices": strategy.num_replicas_in_sync,
        "images_per_second_per_device": per_device,
        "images_per_second_per_core": per_core,
        "cores": limits.num_cores(),
        "cores_needed": cores_needed(
            per_device["synthetic"] * strategy.num_replicas_in_sync, per_core
        ),
    }


Bound = Literal["device", "host", "input"]
EXPLANATION: dict[Bound, str] = {
    "device": "device-bound: the input keeps up; only faster devices or a cheaper step help",
    "host": "host-bound: even from memory, images do not come fast enough; give this machine "
    "more cores, decode on others (--data-service), or pre-resize the records",
    "input": "input-bound: reading is too slow; use faster storage, copy the records here, or "
    "keep them in memory (--set input.cache=true)",
}


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


def _seconds(
    strategy: tf.distribute.Strategy,
    train_steps: TrainSteps,
    source: Source,
    config: RunConfig,
    num_steps: int,
) -> float:
    """Return the seconds of `num_steps` steps after everything is compiled and buffers are full."""
    batches = strategy.distribute_datasets_from_function(
        lambda context: source.batches(config, Share.of(context), 0)
    )
    iterator = iter(batches)
    train_steps.run(iterator, max(2, num_steps // 4))
    since = time.monotonic()
    train_steps.run(iterator, num_steps)
    return time.monotonic() - since


def _images_per_core_second(source: Source, config: RunConfig, num_batches: int) -> float:
    """Return the number of images that one core reads, decodes and resizes in a second."""
    iterator = iter(source.batches(config, SINGLE_PROCESS, 0))
    next(iterator)
    since = time.process_time()
    for _ in range(num_batches):
        next(iterator)
    return config.training.batch_per_replica * num_batches / (time.process_time() - since)
