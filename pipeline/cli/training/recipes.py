"""`mobilenet recipes`: the named training setups, a line each."""

from __future__ import annotations

import argparse

from pipeline.cli import flags, listing
from pipeline.cli.command import Command
from training.config.recipes import RECIPES


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_json(parser)


def _run(arguments: argparse.Namespace) -> None:
    rows: list[dict[str, object]] = [
        {"recipe": name, "for": recipe.summary} for name, recipe in RECIPES.items()
    ]
    listing.show(rows, as_json=arguments.json)


COMMAND = Command(
    name="recipes",
    summary="list the recipes; `mobilenet config --recipe P` shows every setting of one",
    add_flags=_add_flags,
    run=_run,
)
