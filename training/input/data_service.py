"""Training batches made by other machines: a client of the tf.data service.

What is kept: a batch's content is a function of (seed, step, replica), and without failures
none comes twice. What is not: with more than one service worker, batches come in the order in
which they are done; a killed worker loses the batches it had in hand, and one that is started
again makes some of the earlier ones again. A restarted dispatcher changes nothing. A run that
must be the same to the bit when resumed decodes its own images.
"""

from __future__ import annotations

import tensorflow as tf

from preprocessing.errors import UsageError

BATCHES_IN_FLIGHT = 16  # bounds the memory at this end


def served(batches: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """`batches`, made by the service's workers; every one who iterates gets a job of its own.

    The dispatcher hands the steps out one by one, so workers may come, go and differ in speed.

    Args:
        batches: As `training_batches` gives them; its files must be readable there.
        address: `grpc://host:port` of the dispatcher.

    Raises:
        UsageError: Not such an address.
    """
    if not address.startswith("grpc://") or not address.rpartition(":")[2].isdecimal():
        raise UsageError(f"--data-service expects grpc://HOST:PORT, got {address!r}")
    service = tf.data.experimental.service
    return batches.apply(
        service.distribute(
            processing_mode=service.ShardingPolicy.DYNAMIC,
            service=address,
            max_outstanding_requests=BATCHES_IN_FLIGHT,
            compression=None,  # images do not compress; it would cost more than the network
        )
    ).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
