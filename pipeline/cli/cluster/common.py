"""Flags and results that the cluster's commands share."""

from __future__ import annotations

import argparse
import functools
import logging
from typing import TYPE_CHECKING

from pipeline.cli.command import Result

if TYPE_CHECKING:
    from pipeline.cluster.api.gateway import Gateway
    from pipeline.cluster.record import Record

logger = logging.getLogger(__name__)

NAMESPACE = "mobilenet"
OWN_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"  # of a pod, in the pod


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the name of a run."""
    parser.add_argument("run", metavar="RUN", help="name of the run, as `mobilenet jobs` shows it")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add `--namespace` and `--context`."""
    parser.add_argument(
        "--namespace",
        default=_default_namespace(),
        help=f"namespace of the runs [{NAMESPACE}, or in a pod the pod's]",
    )
    parser.add_argument("--context", help="context of the kubeconfig [the current one]")


@functools.cache
def _default_namespace() -> str:
    """Return the namespace of the pod that this process is in, or the platform's usual one."""
    try:
        with open(OWN_NAMESPACE, encoding="ascii") as file:
            return file.read().strip() or NAMESPACE
    except OSError:
        return NAMESPACE


def gateway_of(arguments: argparse.Namespace) -> Gateway:
    """Return the gateway to the namespace that the flags name."""
    from pipeline.cluster.api.gateway import Gateway

    return Gateway(arguments.namespace, arguments.context)


def say_addresses(arguments: argparse.Namespace) -> None:
    """Say where TensorBoard and MLflow are."""
    from pipeline.cluster.status import addresses

    logger.info("%s", addresses.line(arguments.namespace, arguments.context))


def until_end(gateway: Gateway, names: list[str], *, stay: bool = False) -> Result:
    """Supervise runs to their end, and return their results.

    Args:
        gateway: The cluster.
        names: The runs; an empty list means all.
        stay: Whether to wait for new runs, without end.

    Raises:
        PermanentError: A run failed; the exit code is the run's.
    """
    from pipeline.cluster import supervise
    from preprocessing.errors import PermanentError

    records = supervise.supervise(gateway, names, stay=stay)
    failed = [record for record in records if record.state.outcome == "failed"]
    if failed:
        error = PermanentError(
            "; ".join(f"run {record.name} failed: {record.state.reason}" for record in failed)
        )
        error.exit_code = failed[0].state.exit_code
        raise error
    results = [result_of(record) for record in records]
    return results[0] if len(results) == 1 else {"runs": results}


def result_of(record: Record) -> Result:
    """Return what a command prints about a run."""
    state = record.state
    return {
        "run": record.name,
        "variant": record.spec.variant.name,
        "state": state.outcome or ("stopped" if state.stopped else f"{record.stage} submitted"),
        **({"reason": state.reason} if state.reason else {}),
    }
