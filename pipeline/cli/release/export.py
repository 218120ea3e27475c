"""`mobilenet export`: a run in every format, each checked against the checkpoint."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from pipeline.cli import flags
from pipeline.cli.command import Command, Result
from pipeline.export.formats.registry import EXPORT_FORMATS

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pipeline.export.job import Export
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
    parser.add_argument(
        "--formats",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAME,...",
        help=f"formats to export, of {', '.join(item.name for item in EXPORT_FORMATS)} [all]",
    )
    parser.add_argument(
        "--validation-images",
        type=int,
        metavar="N",
        help="compare on N images, spread evenly; such an export cannot be published [all]",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.export import unfinished

    job = _job(arguments)
    metrics = _existing(job, arguments.output)
    if metrics is None:
        with unfinished.lock(arguments.output):
            # While this process waited, another one may have made the same export.
            metrics = _existing(job, arguments.output) or _export(job, arguments.output)
    return {
        "export": arguments.output,
        "variant": metrics.variant.name,
        "top1": {name: figures.top1 for name, figures in metrics.formats.items()},
    }


def _job(arguments: argparse.Namespace) -> Export:
    from pipeline.cli.records import require_same_records
    from pipeline.export.job import Export
    from training.workdir.workdir import Workdir

    workdir = Workdir(arguments.workdir)
    run = workdir.read_run()
    return Export(
        workdir=workdir,
        records=arguments.records,
        run=run,
        manifest=require_same_records(run, arguments.records),
        weights=arguments.weights,
        int8_tolerance=arguments.int8_tolerance,
        formats=arguments.formats,
        validation_images=arguments.validation_images,
    )


def _existing(job: Export, output: str) -> ExportMetrics | None:
    """Return the metrics of the same export if it is there already.

    Raises:
        UsageError: There is another folder, or an export of another run or kind of weights.
        DataError: It was changed since it was measured.
    """
    from pipeline.export import directory
    from preprocessing import storage
    from preprocessing.errors import UsageError

    if not storage.exists(output) or storage.is_unfinished_upload(output):
        return None
    if not directory.is_export(output):
        raise UsageError(f"{output} exists and is not an export; choose another --output")
    metrics = directory.read_metrics(output)
    exported, wanted = (
        (metrics.lineage.records_digest, metrics.lineage.config_digest, metrics.weights),
        (job.manifest.digest, job.run.config_digest, job.weights),
    )
    names = ("records_digest", "config_digest", "weights")
    changed = [name for name, old, new in zip(names, exported, wanted, strict=True) if old != new]
    if changed:
        raise UsageError(
            f"{output} holds the export of another {', '.join(changed)}; "
            "choose another --output or delete it"
        )
    directory.require_intact(output, metrics)
    step = job.workdir.result_step(job.run)
    if metrics.lineage.weights_digest != job.workdir.weights_digest(step):
        logger.info(
            "export: %s holds other weights, of step %d; exporting step %d in their place",
            output,
            metrics.lineage.checkpoint_step,
            step,
        )
        return None
    if not job.is_covered_by(metrics):
        logger.info(
            "export: %s holds other formats or was compared on other images; exporting again",
            output,
        )
        return None
    logger.info("export: %s holds these weights already; nothing to do", output)
    return metrics


def _export(job: Export, output: str) -> ExportMetrics:
    from pipeline.export.exporter import export

    return export(job, output)


COMMAND = Command(
    name="export",
    summary="export a run in every format, each checked against the checkpoint",
    add_flags=_add_flags,
    run=_run,
)
