"""Real data for every test: the digits, as archives and as records, made once."""

from __future__ import annotations

import os

from tests.built_once import CACHE, pytest_terminal_summary  # noqa: F401  (a hook)

# Keras and Matplotlib would write to other folders in the user's home.
os.environ.setdefault("KERAS_HOME", str(CACHE / "keras"))
os.environ.setdefault("MPLCONFIGDIR", str(CACHE / "matplotlib"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = "2"  # as the figures in tests/data were made

import gc
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tensorflow as tf

from pipeline.cli.log_setup import configure_logging
from pipeline.demo.sample import write_sample
from preprocessing import extensions
from preprocessing.ingest import prepare
from preprocessing.ingest_plan import ImageOptions
from preprocessing.records.schema import Manifest
from tests import shallow_family
from tests.emulator import emulator, flaky_emulator  # noqa: F401  (fixtures for every test)

# Several replicas in one process; only possible before TensorFlow does anything.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

os.environ[extensions.VARIABLE] = shallow_family.__file__  # for commands; tests import it
configure_logging()

# Whoever starts the tests in the background may ignore these, and programs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that processes that share the files end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module", autouse=True)
def forget_networks() -> Iterator[None]:
    """Free what Keras and TensorFlow keep of a file's networks."""
    yield
    tf.keras.backend.clear_session()
    gc.collect()


@dataclass(frozen=True)
class Outcome:
    """The end of a `mobilenet` process."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON on the last line of stdout."""
        parsed: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return parsed


def mobilenet(
    *arguments: str | Path,
    timeout_seconds: float = 1500,
    folder: Path | None = None,
    **environment: str,
) -> Outcome:
    """Run the real command in a separate process, from the checkout in `folder` [this one]."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def ingest(source: Path | str, records: Path | str, **changed: Any) -> Manifest:
    """Run `prepare` with its defaults."""
    options: dict[str, Any] = {
        "num_shards": {"train": 0, "validation": 0},
        "seed": 0,
        "image": ImageOptions(),
        "max_rejects": 100,
        "overwrite": False,
        "num_workers": 0,
        "beam_arguments": [],
        **changed,
    }
    return prepare(str(source), str(records), **options)


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits as ILSVRC2012 archives."""
    folder = tmp_path_factory.mktemp("source") / "archives"
    write_sample(str(folder))
    return folder


@pytest.fixture(scope="session")
def records(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits as records."""
    folder = tmp_path_factory.mktemp("ingested") / "records"
    ingest(archives, folder)
    return folder


@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.Strategy:
    """Return a strategy with two replicas in one process.

    Its collectives get their own keys, as in TensorFlow's tests: another strategy on these
    devices, such as that of `diagnose`, would find them used for other types.
    """
    with mock.patch.object(tf.distribute.MirroredStrategy, "_collective_key_base", 100_000):
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
