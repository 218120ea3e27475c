"""`mobilenet export`: a run in every format, each checked against the checkpoint."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from pipeline.cli import flags
from pipeline.cli.command import Command, Result

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pipeline.export.metrics import ExportMetrics


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="folder of the run")
    flags.add_records(parser)
    parser.add_argument("--output", required=True, help="export directory to make")
    parser.add_argument(
        "--int8-tolerance",
        type=float,
        metavar="FRACTION",
        help="top-1 that quantised formats may lose [0.02]",
    )
    parser.add_argument(
        "--weights",
        choices=("ema", "raw"),
        default="ema",
        help="averages, or the weights of the last step [ema]",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from preprocessing import storage

    is_there = storage.exists(arguments.output)
    if is_there and not storage.is_unfinished_upload(arguments.output):
        metrics = _existing(arguments) or _export(arguments)
    else:
        metrics = _export(arguments)
    return {
        "export": arguments.output,
        "variant": metrics.variant.name,
        "top1": {name: figures.top1 for name, figures in metrics.formats.items()},
    }


def _existing(arguments: argparse.Namespace) -> ExportMetrics | None:
    """Return the metrics of the export that is there already; None if it has other weights.

    Raises:
        UsageError: It is no export, or one of another run or kind of weights.
        DataError: It was changed since it was measured.
    """
    from pipeline.cli.records import require_same_records
    from pipeline.export import directory
    from preprocessing.errors import UsageError
    from training.workdir.workdir import Workdir

    workdir = Workdir(arguments.workdir)
    run = workdir.read_run()
    manifest = require_same_records(run, arguments.records)
    if not directory.is_export(arguments.output):
        raise UsageError(f"{arguments.output} exists and is not an export; choose another --output")
    metrics = directory.read_metrics(arguments.output)
    exported, wanted = (
        (metrics.lineage.records_digest, metrics.lineage.config_digest, metrics.weights),
        (manifest.digest, run.config_digest, arguments.weights),
    )
    names = ("records_digest", "config_digest", "weights")
    changed = [name for name, old, new in zip(names, exported, wanted, strict=True) if old != new]
    if changed:
        raise UsageError(
            f"{arguments.output} holds the export of another {', '.join(changed)}; "
            "choose another --output or delete it"
        )
    directory.require_intact(arguments.output, metrics)
    newest = workdir.newest_checkpoint_step()
    if metrics.lineage.weights_digest == workdir.weights_digest(newest):
        logger.info("export: %s holds these weights already; nothing to do", arguments.output)
        return metrics
    logger.info(
        "export: %s holds other weights, of step %d; exporting step %d in their place",
        arguments.output,
        metrics.lineage.checkpoint_step,
        newest,
    )
    return None


def _export(arguments: argparse.Namespace) -> ExportMetrics:
    from pipeline.cli.records import require_same_records
    from pipeline.local.quiet import import_tensorflow
    from training.workdir.workdir import Workdir

    workdir = Workdir(arguments.workdir)
    run = workdir.read_run()
    manifest = require_same_records(run, arguments.records)
    import_tensorflow()
    from pipeline.export.exporter import Export, export
    from training.workers.failures import explained

    with explained(arguments.records):
        what = Export(
            workdir=workdir,
            records=arguments.records,
            run=run,
            manifest=manifest,
            weights=arguments.weights,
            int8_tolerance=arguments.int8_tolerance,
        )
        return export(what, arguments.output)


COMMAND = Command(
    name="export",
    summary="export a run in every format, each checked against the checkpoint",
    add_flags=_add_flags,
    run=_run,
)
