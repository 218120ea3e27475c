"""Flags that several commands have, and the values that flags take."""

from __future__ import annotations

import argparse
import socket
from typing import TYPE_CHECKING

from preprocessing.records.imagenet import NUM_TRAIN_IMAGES
from training.config.recipes import DEFAULT_RECIPE, RECIPES

if TYPE_CHECKING:
    from training.config import RunConfig


def add_variant(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add `--variant V`; `chosen_config` knows what is taken without it."""
    shown = f"for example {default} [{default}]" if default else "for example mobilenet_v2_1.0_224"
    parser.add_argument("--variant", help=shown)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to train: `--recipe`, `--epochs`, `--set` and `--config`."""
    *others, last = RECIPES
    parser.add_argument("--recipe", help=f"{', '.join(others)} or {last} [{DEFAULT_RECIPE}]")
    parser.add_argument(
        "--epochs",
        type=positive_amount,
        metavar="N",
        help="passes over the training images, with the recipe's schedule in that time [as the "
        "recipe says]",
    )
    add_set(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with variant, recipe and settings, such as run.toml of another run; flags "
        "go before it",
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add `--set SECTION.FIELD=VALUE`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="change the recipe, for example optimizer.momentum=0.8; repeatable",
    )


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Add `--examples N`, for commands that do not read the records."""
    parser.add_argument(
        "--examples",
        type=positive,
        default=NUM_TRAIN_IMAGES,
        help=f"training images of the records [{NUM_TRAIN_IMAGES}]",
    )


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add `--records R`, which is required."""
    parser.add_argument("--records", required=True, help="folder that `prepare` wrote")


def add_registry(parser: argparse.ArgumentParser) -> None:
    """Add `--registry URI`."""
    parser.add_argument(
        "--registry", help="MLflow URI [MLFLOW_TRACKING_URI, or a file in your data folder]"
    )


def resolve_settings(arguments: argparse.Namespace) -> None:
    """Put what `--config` and `--epochs` say into `variant`, `recipe` and `set`.

    Afterwards these three hold all that decides the config, for another process to be given.

    Raises:
        UsageError: The file does not exist or has another form.
    """
    from training.config import run_files

    if arguments.config:
        described = run_files.read(arguments.config)
        arguments.variant = arguments.variant or described.variant
        arguments.recipe = arguments.recipe or described.recipe
        arguments.set = [*described.assignments, *arguments.set]
    if arguments.epochs is not None:
        arguments.set = [*arguments.set, f"epochs={arguments.epochs!r}"]
    arguments.recipe = arguments.recipe or DEFAULT_RECIPE
    arguments.config = arguments.epochs = None


def chosen_config(
    arguments: argparse.Namespace,
    num_examples: int = NUM_TRAIN_IMAGES,
    default_variant: str | None = None,
) -> RunConfig:
    """Return the config that `--variant` and the flags of `add_settings` name.

    Args:
        arguments: The parsed flags.
        num_examples: Number of training images.
        default_variant: The variant if neither flags nor file name one; None means that they must.

    Raises:
        UsageError: One of them names something that does not exist, or a value out of its range.
    """
    from preprocessing.errors import UsageError
    from training.config.recipes import configured
    from training.models.variants import Variant

    resolve_settings(arguments)
    arguments.variant = arguments.variant or default_variant
    if not arguments.variant:
        raise UsageError("--variant is missing, for example --variant mobilenet_v2_1.0_224")
    variant = Variant.parse(arguments.variant)
    return configured(arguments.recipe, variant, arguments.set, num_examples)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_cost(parser: argparse.ArgumentParser) -> None:
    """Add `--images-per-second` and `--price-per-hour`."""
    parser.add_argument(
        "--images-per-second",
        type=positive,
        help="speed of all replicas together, from which the hours follow",
    )
    add_price(parser)


def add_price(parser: argparse.ArgumentParser) -> None:
    """Add `--price-per-hour`."""
    parser.add_argument(
        "--price-per-hour",
        type=amount,
        help="price of all machines together, from which the cost follows",
    )


def require_hours_for_cost(arguments: argparse.Namespace) -> None:
    """Refuse `--price-per-hour` without `--images-per-second`.

    Raises:
        UsageError: Only the price is given.
    """
    from preprocessing.errors import UsageError

    if arguments.price_per_hour is not None and arguments.images_per_second is None:
        raise UsageError("--price-per-hour needs --images-per-second to know the hours")


def require_free_port(port: int) -> None:
    """Refuse a port that another process of this machine uses.

    Raises:
        UsageError: The port is in use.
    """
    from preprocessing.errors import UsageError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} is in use ({error.strerror}); choose another with --port"
            ) from None


def positive(text: str) -> int:
    """Return a whole number from 1."""
    value = natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expects a positive whole number, got {text!r}")
    return value


def quality(text: str) -> int:
    """Return a JPEG quality, 1 to 100."""
    value = positive(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"expects 1 to 100, got {text!r}")
    return value


def amount(text: str) -> float:
    """Return a finite number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expects an amount, got {text!r}")
    return value


def positive_amount(text: str) -> float:
    """Return a finite number above 0."""
    value = amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expects an amount above 0, got {text!r}")
    return value


def part(text: str) -> float:
    """Return a fraction above 0 and below 1."""
    value = positive_amount(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expects a fraction between 0 and 1, got {text!r}")
    return value


def natural(text: str) -> int:
    """Return a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expects a whole number, got {text!r}")
    return int(text)
