"""`mobilenet plan`: figures on stdout, the schedule on stderr and as a picture."""

from __future__ import annotations

import argparse
import logging

from pipeline.cli import flags
from pipeline.cli.command import Command, Result

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_variant(parser)
    parser.add_argument(
        "--gpus", type=flags.positive, required=True, help="number of GPUs, one replica on each"
    )
    flags.add_examples(parser)
    flags.add_cost(parser)
    parser.add_argument(
        "--gigabits-per-second",
        type=flags.positive,
        default=100,
        help="speed of a GPU's link to the others, for the model of their scaling [100]",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the schedule into this picture")
    flags.add_settings(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.planning.run_plan import Plan

    flags.require_hours_for_cost(arguments)
    planned = Plan(
        config=flags.chosen_config(arguments, arguments.examples),
        num_replicas=arguments.gpus,
        num_examples=arguments.examples,
    )
    if arguments.plot:
        planned.plot(arguments.plot)
    logger.info("%s", planned.table())
    return planned.summary(
        arguments.images_per_second, arguments.price_per_hour, arguments.gigabits_per_second
    )


COMMAND = Command(
    name="plan",
    summary="show steps, schedule, data and cost of a run before anything is spent",
    add_flags=_add_flags,
    run=_run,
)
