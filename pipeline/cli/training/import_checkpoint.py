"""`mobilenet import-checkpoint`: published weights become a finished run."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="slim prefix, folder or .tgz, or Keras .weights.h5"
    )
    parser.add_argument("--variant", required=True, help="the variant that CKPT holds")
    parser.add_argument("--workdir", required=True, help="folder of the run to make")
    parser.add_argument(
        "--weights",
        choices=("ema", "raw", "notebook"),
        default="ema",
        help="averages, raw weights, or averages with raw BN statistics as slim's notebook [ema]",
    )
    parser.add_argument(
        "--background",
        choices=("yes", "no"),
        help="whether output 0 of a slim checkpoint is the background [yes, unless there are "
        "1000 outputs]",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.local.quiet import import_tensorflow
    from training.models.variants import Variant
    from training.workdir.lock import exclusive
    from training.workdir.workdir import Workdir

    variant = Variant.parse(arguments.variant)
    import_tensorflow()
    from training.weights.at_hand import at_hand
    from training.weights.initial import import_checkpoint

    workdir = Workdir(arguments.workdir)
    with exclusive(workdir), at_hand(arguments.checkpoint) as checkpoint:
        progress = import_checkpoint(
            checkpoint,
            variant,
            workdir,
            arguments.weights,
            {"yes": True, "no": False}.get(arguments.background),
        )
    return {"workdir": arguments.workdir, **progress.to_json()}


COMMAND = Command(
    name="import-checkpoint",
    summary="make a run out of published weights, to evaluate or export",
    add_flags=_add_flags,
    run=_run,
)
