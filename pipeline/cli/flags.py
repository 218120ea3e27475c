"""Flags that several commands have, and what their values may be."""

from __future__ import annotations

import argparse

RECIPE_HELP = "published, improved, demo, quantized or demo_quantized [published]"


def add_records(command: argparse.ArgumentParser) -> None:
    """`--records R`, which must be given."""
    command.add_argument("--records", required=True, help="folder that `prepare` wrote")


def add_registry(command: argparse.ArgumentParser) -> None:
    """`--registry URI`."""
    command.add_argument(
        "--registry", help="MLflow URI [MLFLOW_TRACKING_URI, or a file in your data folder]"
    )


def add_set(command: argparse.ArgumentParser) -> None:
    """`--set SECTION.FIELD=VALUE`."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="change the recipe, for example optimizer.momentum=0.8; repeatable",
    )


def positive(text: str) -> int:
    """A whole number from 1."""
    value = natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expects a positive whole number, got {text!r}")
    return value


def quality(text: str) -> int:
    """A JPEG quality."""
    value = positive(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"expects 1 to 100, got {text!r}")
    return value


def amount(text: str) -> float:
    """A finite number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expects an amount, got {text!r}")
    return value


def natural(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expects a whole number, got {text!r}")
    return int(text)
