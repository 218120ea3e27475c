"""Consequences of `ComputeConfig` on the devices of this process."""

from __future__ import annotations

import tensorflow as tf

from training.config import ComputeConfig


def uses_xla(config: ComputeConfig) -> bool:
    """Return whether a replica's forward pass, backward pass and update are compiled."""
    return _is_on(config.xla)


def fuses_distortion(config: ComputeConfig) -> bool:
    """Return whether flip and colours are one compiled loop, ten times faster also on CPUs."""
    return uses_xla(config) or not _has_gpu()


def dtype_policy(config: ComputeConfig) -> str:
    """Return Keras' name for the precision of the network."""
    return "mixed_bfloat16" if _is_on(config.bfloat16) else "float32"


def communication(config: ComputeConfig) -> tf.distribute.experimental.CommunicationOptions:
    """Return how gradients are summed over workers and replicas."""
    implementations = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.experimental.CommunicationOptions(
        bytes_per_pack=config.bytes_per_pack,
        implementation=implementations[config.collectives.upper()],
    )


def _is_on(switch: str) -> bool:
    return switch == "on" or (switch == "auto" and _has_gpu())


def _has_gpu() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))
