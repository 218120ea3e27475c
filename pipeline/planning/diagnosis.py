"""What limits the speed of training on this machine: its devices, its cores or its storage.

The same step is timed on three inputs. `synthetic` costs nothing, so it shows the devices
alone. `cached` reads encoded images from memory, so it adds decoding. `real` adds storage.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from training.config import RunConfig
from training.input.data import SINGLE_PROCESS, Readable, Share
from training.input.source import CachedRecords, Source, SyntheticRecords
from training.loop.step import TrainSteps
from training.optimization.state import TrainingState

NEARLY = 0.9  # of a faster input's speed counts as the same
CACHED_EXAMPLES = 2048  # enough to draw from; 200 MB of ImageNet


def diagnose(config: RunConfig, records: str, num_steps: int) -> dict[str, Any]:
    """Time `num_steps` steps on each input, and the input without the step.

    Returns:
        `bound` (see `verdict`), `images_per_second_per_device` of each input,
        `images_per_second_per_core` of reading and decoding, `cores` here and
        `cores_needed` to keep the devices busy.
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
        print(f"diagnose: {name:9} {per_device[name]:8.0f} images/s per device", file=sys.stderr)
    per_core = _rounded(_images_per_core_second(real, config, num_steps))
    bound = verdict(per_device)
    print(f"diagnose: {EXPLANATION[bound]}", file=sys.stderr)
    return {
        "bound": bound,
        "devices": strategy.num_replicas_in_sync,
        "images_per_second_per_device": per_device,
        "images_per_second_per_core": per_core,
        "cores": len(os.sched_getaffinity(0)),
        "cores_needed": cores_needed(
            per_device["synthetic"] * strategy.num_replicas_in_sync, per_core
        ),
    }


EXPLANATION = {
    "device": "device-bound: the input keeps up; only faster devices or a cheaper step help",
    "host": "host-bound: even from memory, images do not come fast enough; give this machine "
    "more cores, decode on others (--data-service), or pre-resize the records",
    "input": "input-bound: reading is too slow; use faster storage, copy the records here, or "
    "keep them in memory (--set input.cache=true)",
}


def verdict(images_per_second: Mapping[str, float]) -> str:
    """`device`, `host` or `input`: the first thing that slows the step down.

    Args:
        images_per_second: Of the inputs `synthetic`, `cached` and `real`.
    """
    if images_per_second["real"] >= NEARLY * images_per_second["synthetic"]:
        return "device"
    if images_per_second["real"] >= NEARLY * images_per_second["cached"]:
        return "host"
    return "input"


def cores_needed(images_per_second: float, images_per_second_per_core: float) -> int:
    """Cores that read and decode as many images as the devices of this machine use."""
    return math.ceil(images_per_second / images_per_second_per_core)


def _rounded(value: float) -> float:
    """To four digits; no measurement is better."""
    return float(f"{value:.4g}")


def _some_in_memory(records: Readable) -> CachedRecords:
    some = _First(records, min(CACHED_EXAMPLES, records.num_examples))
    return CachedRecords(some, num_bytes=0)


class _First:
    """The first `num_examples` of some records."""

    def __init__(self, records: Readable, num_examples: int) -> None:
        self.num_examples = num_examples
        self.read = records.read


def _seconds(
    strategy: tf.distribute.Strategy,
    train_steps: TrainSteps,
    source: Source,
    config: RunConfig,
    num_steps: int,
) -> float:
    """Seconds of `num_steps` steps once everything is compiled and buffers are filled."""
    batches = strategy.distribute_datasets_from_function(
        lambda context: source.batches(config, Share.of(context), 0)
    )
    iterator = iter(batches)
    train_steps.run(iterator, max(2, num_steps // 4))
    since = time.monotonic()
    train_steps.run(iterator, num_steps)
    return time.monotonic() - since


def _images_per_core_second(source: Source, config: RunConfig, num_batches: int) -> float:
    """Images that one core's second reads, decodes, crops and resizes."""
    iterator = iter(source.batches(config, SINGLE_PROCESS, 0))
    next(iterator)
    since = time.process_time()
    for _ in range(num_batches):
        next(iterator)
    return config.training.batch_per_replica * num_batches / (time.process_time() - since)
