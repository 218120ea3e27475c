"""`mobilenet predict`: an exported model classifies images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator

from pipeline.cli import flags, listing
from pipeline.cli.command import Command

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="image, or folder of images, local or gs://"
    )
    parser.add_argument(
        "--model", required=True, help="export, a file of one, or a .tflite file of ours"
    )
    parser.add_argument("--format", help="format of the export to run [tflite_float32]")
    parser.add_argument(
        "--top", type=flags.positive, default=5, metavar="N", help="classes per image [5]"
    )
    flags.add_json(parser)


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.local.quiet import import_tensorflow

    paths = list(_files(arguments.images))
    import_tensorflow()
    from pipeline.export.prediction.opening import open_classifier
    from preprocessing.errors import DataError, describe_os_error

    classifier = open_classifier(arguments.model, arguments.format)
    rows: list[dict[str, object]] = []
    failed = 0
    for path in paths:
        try:
            best = classifier(path).top(arguments.top)
        except (DataError, OSError) as error:
            failed += 1
            reason = describe_os_error(error) if isinstance(error, OSError) else error
            logger.error("predict: %s", reason)
            continue
        rows += [
            {"image": path, "class": label, "probability": round(probability, 4)}
            for label, probability in best
        ]
    listing.show(rows, as_json=arguments.json)
    if failed:
        raise DataError(f"{failed} of {len(paths)} images could not be classified")


def _files(images: list[str]) -> Iterator[str]:
    """Yield the images that are named, and those in folders that are named.

    Raises:
        UsageError: There is nothing of a name, or a folder holds no files.
    """
    from preprocessing import storage
    from preprocessing.errors import UsageError
    from preprocessing.sources.ignored import is_ignored

    for path in images:
        if not storage.exists(path):
            raise UsageError(f"{path} does not exist; expected an image or a folder of images")
        inside = [entry for entry in storage.list_entries(path) if not is_ignored(entry.name)]
        files = [entry.name for entry in inside if not entry.is_folder]
        if inside and not files:
            raise UsageError(f"{path} holds folders and no images; name the folders")
        if len(files) < len(inside):
            logger.warning("predict: the folders in %s are not read", path)
        if files:
            yield from (storage.join(path, name) for name in files)
        else:
            yield path


COMMAND = Command(
    name="predict",
    summary="classify images with an exported model",
    add_flags=_add_flags,
    run=_run,
)
