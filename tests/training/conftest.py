"""Two logical CPU devices, so that several replicas live in one process."""

from __future__ import annotations

import pytest
import tensorflow as tf


@pytest.fixture(scope="session", autouse=True)
def _two_cpu_devices() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
    )


@pytest.fixture
def two_replicas() -> tf.distribute.Strategy:
    """One process, two replicas."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
