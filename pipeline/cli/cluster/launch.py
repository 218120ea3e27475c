"""`mobilenet launch`: train on a cluster, then evaluate, export and publish."""

from __future__ import annotations

import argparse
import json
import logging

from pipeline.cli import flags
from pipeline.cli.cluster import common
from pipeline.cli.command import Command, Result
from pipeline.cluster.backends import registry
from pipeline.cluster.spec import COMPONENTS, LAYOUTS
from preprocessing.errors import UsageError

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    _add_where(parser)
    parser.add_argument(
        "--max-attempts",
        type=flags.positive,
        default=5,
        metavar="N",
        help="resubmissions in a row without a new step [5]",
    )
    parser.add_argument(
        "--deadline-hours",
        type=flags.amount,
        metavar="H",
        help="hours after which the run is stopped [never]",
    )
    flags.add_cost(parser)
    parser.add_argument("--detach", action="store_true", help="leave the rest to the supervisor")
    parser.add_argument(
        "--dry-run", action="store_true", help="let the cluster check everything, start nothing"
    )
    parser.add_argument(
        "--render", action="store_true", help="print the manifests; needs no cluster"
    )
    common.add_cluster(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is trained."""
    variants = parser.add_mutually_exclusive_group()
    variants.add_argument("--variant", help="for example mobilenet_v2_1.0_224")
    variants.add_argument(
        "--all", action="store_true", help="all 22 variants of MobileNetV2, queued by Kueue"
    )
    flags.add_settings(parser)
    flags.add_examples(parser)
    parser.add_argument("--pipeline", action="store_true", help="prepare the records first")
    parser.add_argument("--name", help="name of the run [from variant and flags]")


def _add_where(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where it is trained."""
    parser.add_argument("--gpus", type=flags.natural, default=8, help="8, or 0 for CPU workers [8]")
    parser.add_argument(
        "--layout", help=f"workers x GPUs each: {', '.join(LAYOUTS)} [{LAYOUTS[0]}]"
    )
    parser.add_argument(
        "--workers", type=flags.positive, default=2, help="CPU workers, with --gpus 0 [2]"
    )
    parser.add_argument("--overlay", default="gke", help="folder of k8s/overlays [gke]")
    parser.add_argument(
        "--with",
        dest="components",
        action="append",
        default=[],
        metavar="COMPONENT",
        help=f"repeatable: {', '.join(COMPONENTS)}",
    )
    parser.add_argument("--queue", action="store_true", help="let Kueue decide when it starts")
    parser.add_argument(
        "--priority",
        metavar="CLASS",
        help="with --queue: Kueue's priority class, for example mobilenet-urgent",
    )
    names = registry.names()
    parser.add_argument(
        "--backend",
        choices=names,
        default=names[0],
        help=f"kind of job that trains [{names[0]}]",
    )


def _run(arguments: argparse.Namespace) -> Result | None:
    from pipeline.cluster import launch

    flags.resolve_settings(arguments)
    if bool(arguments.variant) == arguments.all:
        raise UsageError("launch expects --variant, for example mobilenet_v2_1.0_224, or --all")
    rendered = launch.from_arguments(arguments)
    if not arguments.render:
        common.say_addresses(arguments)
    for item in rendered:
        summary = launch.summary(
            item.record.spec,
            item.record.name,
            arguments.examples,
            arguments.images_per_second,
            arguments.price_per_hour,
        )
        logger.info("launch: %s", json.dumps(summary))
    if arguments.render:
        launch.print_manifests(rendered)
        return None
    gateway = common.gateway_of(arguments)
    launch.check(gateway, rendered[0])  # the others differ in names only
    names = [item.record.name for item in rendered]
    if arguments.dry_run:
        return {"checked": names}
    for item in rendered:
        launch.submit(gateway, item)
    if arguments.detach:
        return {"runs": names, "state": "submitted"}
    return common.until_end(gateway, names)


COMMAND = Command(
    name="launch",
    summary="train on the cluster, then evaluate, export and publish",
    add_flags=_add_flags,
    run=_run,
)
