"""`mobilenet publish`: the gate, the registry, the upload and the index."""

from __future__ import annotations

import argparse
import logging
import os

from pipeline.cli import flags
from pipeline.cli.command import Command, Result
from preprocessing import storage

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("export", metavar="EXPORT", help="export directory")
    parser.add_argument("--to", help="folder to publish in [published, next to EXPORT's folder]")
    flags.add_registry(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a published variant")
    parser.add_argument(
        "--force", action="store_true", help="publish even what is worse than the champion"
    )


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.export import directory

    folder = arguments.to or _beside(arguments.export)
    with directory.at_hand(arguments.export) as export:
        return _publish(export, folder, arguments)


def _beside(export: str) -> str:
    """Return the folder `published` beside an export."""
    path = export.rstrip("/") if storage.is_remote(export) else os.path.abspath(export)
    return storage.join(os.path.dirname(path), "published")


def _publish(export: str, folder: str, arguments: argparse.Namespace) -> Result:
    """Register and publish the local folder `export`."""
    from pipeline.export import directory
    from pipeline.publish import embedded_registry, gate, registry
    from pipeline.publish.passwords import without_password
    from pipeline.publish.publication import publish
    from pipeline.publish.published_index import RegistryReference

    metrics = directory.read_metrics(export)
    gate.require_measured(export, metrics)
    uri = arguments.registry or embedded_registry.default_uri()
    version = registry.register(export, metrics, uri)
    champion = registry.champion(metrics.variant.name, metrics.lineage.records_digest, uri)
    gate.require_champion(metrics, champion, arguments.force)
    if champion and champion.version != version.version:
        logger.info("publish: compared with %s", gate.described(champion))
    else:
        logger.info(
            "publish: version %d is the best of %s on records %s",
            version.version,
            metrics.variant.name,
            metrics.lineage.records_digest[:8],
        )
    reference = RegistryReference(model=version.model, version=version.version)
    entry = publish(export, metrics, reference, folder, overwrite=arguments.overwrite)
    registry.mark_published(version.model, version.version, uri)
    return {
        "variant": entry.name,
        "top1": entry.top1,
        "top5": entry.top5,
        "macs": entry.macs,
        "parameters": entry.parameters,
        "rejected": entry.rejected,
        "published": folder,
        "registry": {
            "uri": without_password(uri),
            "model": version.model,
            "version": version.version,
            "run_id": version.run_id,
        },
        "champion": champion and {"version": champion.version, "top1": champion.top1},
    }


COMMAND = Command(
    name="publish",
    summary="register an export, pack it and refresh the table",
    add_flags=_add_flags,
    run=_run,
)
