"""`mobilenet variants`: the networks of the published tables, a line each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.cli import flags, listing
from pipeline.cli.command import Command

if TYPE_CHECKING:
    from training.models.variants import Variant


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_json(parser)


def _run(arguments: argparse.Namespace) -> None:
    from training.models.variants import Variant, published_variants

    listing.show(
        [_row(Variant.parse(name)) for name in published_variants()], as_json=arguments.json
    )


def _row(variant: Variant) -> dict[str, object]:
    from preprocessing.records.imagenet import NUM_CLASSES
    from training.models.architecture import architecture

    layout = architecture(variant, NUM_CLASSES + 1)
    published = variant.model_family.published_rows[variant.name]
    return {
        "variant": variant.name,
        "MACs (M)": round(layout.macs / 1e6),
        "parameters (M)": round(layout.parameters / 1e6, 2),
        "published top-1 (%)": published.top1,
        "published top-5 (%)": published.top5,
    }


COMMAND = Command(
    name="variants",
    summary="list the networks of the published tables; any multiple of 32 is a resolution",
    add_flags=_add_flags,
    run=_run,
)
