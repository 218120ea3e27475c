"""Training batches from other machines: a client of the tf.data service.

A batch's content is a function of (seed, step, replica), and without failures none comes twice.
Three properties are lost. With more than one service worker, batches come in the order in which
they are finished. A killed worker loses the batches in its hands, and a restarted one makes some
earlier batches again. A restarted dispatcher changes nothing. A run that must be identical to the
last bit after a resume decodes its own images.
"""

from __future__ import annotations

import tensorflow as tf

from preprocessing.errors import UsageError

BATCHES_IN_FLIGHT = 16  # bounds the memory of this process


def served(batches: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Return `batches`, made by the service's workers; every iterator has a job of its own.

    The dispatcher hands out the steps one by one, so workers may come, go and differ in speed.

    Args:
        batches: Result of `training_batches`; the workers must be able to read its files.
        address: `grpc://host:port` of the dispatcher.

    Raises:
        UsageError: The address has another form.
    """
    if not address.startswith("grpc://") or not address.rpartition(":")[2].isdecimal():
        raise UsageError(f"--data-service expects grpc://HOST:PORT, got {address!r}")
    service = tf.data.experimental.service
    return batches.apply(
        service.distribute(
            processing_mode=service.ShardingPolicy.DYNAMIC,
            service=address,
            max_outstanding_requests=BATCHES_IN_FLIGHT,
            compression=None,  # compression of images would cost more than the network
        )
    ).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
