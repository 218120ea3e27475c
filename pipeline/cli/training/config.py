"""`mobilenet config`: every setting of a recipe."""

from __future__ import annotations

import argparse
import textwrap

from pipeline.cli import flags
from pipeline.cli.command import Command

VARIANT = "mobilenet_v2_1.0_224"
MEANING_COLUMNS = 100


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_variant(parser, VARIANT)
    flags.add_examples(parser)
    flags.add_settings(parser)


def _run(arguments: argparse.Namespace) -> None:
    for setting in flags.chosen_config(arguments, arguments.examples, VARIANT).settings():
        changed = "" if setting.value == setting.default else f" (default {_text(setting.default)})"
        unit = f" {setting.unit}" if setting.unit else ""
        print(f"{setting.name} = {_text(setting.value)}{unit}{changed}   [{setting.allowed}]")
        print(textwrap.indent(textwrap.fill(setting.meaning, MEANING_COLUMNS), "    "))


def _text(value: object) -> str:
    """Return a value as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


COMMAND = Command(
    name="config",
    summary="list every setting with its value, default, range and meaning",
    add_flags=_add_flags,
    run=_run,
)
