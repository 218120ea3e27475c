"""`mobilenet`: one console script. Results are one JSON line on stdout, all else is stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.cli import cluster_flags as cluster_cli
from pipeline.cli import flags
from pipeline.cli.log_setup import LOG_FORMATS, configure_logging
from pipeline.cli.registry import COMMANDS
from pipeline.local import processes
from preprocessing.errors import PermanentError, RetryError, describe_os_error
from preprocessing.records.imagenet import NUM_TRAIN_IMAGES
from training.config import SYNTHETIC

EXIT_CODES = """\
exit codes:
  0 done; 2 wrong usage; 3 bad data; 4 loss not finite; 5 an export disagrees with its
  checkpoint or is below the champion; 6 no space left; 143 interrupted or lost a peer, run it
  again to continue
"""


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one line; argparse prints the usage first."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """All commands and their flags; imports nothing heavy."""
    root = _Parser(
        prog="mobilenet",
        description="From the ImageNet archives to published MobileNetV2 checkpoints.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, prog=f"mobilenet {name}")
        added.add_argument(
            "--log-format",
            choices=LOG_FORMATS,
            default="human",
            help="form of the messages [human]",
        )
        return added

    for item in COMMANDS:
        item.add_flags(command(item.name, item.summary))

    train = command("train", "train here, with local workers, or as TF_CONFIG says")
    train.add_argument("--variant", required=True, help="for example mobilenet_v2_1.0_224")
    train.add_argument("--recipe", default="published", help=flags.RECIPE_HELP)
    images = train.add_mutually_exclusive_group(required=True)
    images.add_argument("--records", help="folder that `prepare` wrote")
    images.add_argument(
        "--synthetic",
        dest="records",
        action="store_const",
        const=SYNTHETIC,
        help="no dataset: noise that costs nothing, to prove a cluster",
    )
    train.add_argument(
        "--data-service",
        default="",
        metavar="grpc://HOST:PORT",
        help="let a tf.data service make the batches",
    )
    train.add_argument("--workdir", required=True, help="folder of the run; rerun to resume")
    train.add_argument(
        "--workers", type=flags.positive, default=1, help="processes to start here [1]"
    )
    train.add_argument(
        "--initial-checkpoint",
        default="",
        metavar="CKPT",
        help="slim checkpoint (prefix, folder or .tgz) or Keras .weights.h5 to fine-tune",
    )
    train.add_argument(
        "--profile",
        type=flags.natural,
        default=0,
        metavar="STEPS",
        help="trace about so many steps for TensorBoard's profile page [0]",
    )
    flags.add_set(train)

    evaluate = command("evaluate", "exact top-1 and top-5 of the averaged weights")
    evaluate.add_argument("--workdir", required=True, help="folder of the run")
    flags.add_records(evaluate)
    evaluate.add_argument(
        "--follow", action="store_true", help="every new checkpoint, until the run is complete"
    )

    imported = command(
        "import-checkpoint", "make a run out of published weights, to evaluate or export"
    )
    imported.add_argument(
        "checkpoint", metavar="CKPT", help="slim prefix, folder or .tgz, or Keras .weights.h5"
    )
    imported.add_argument("--variant", required=True, help="what it is")
    imported.add_argument("--workdir", required=True, help="folder of the run to make")
    imported.add_argument(
        "--weights",
        choices=("ema", "raw", "notebook"),
        default="ema",
        help="averages, raw weights, or averages with raw BN statistics as slim's notebook [ema]",
    )

    plan = command("plan", "steps, schedule, data and cost of a run, before anything is spent")
    plan.add_argument("--variant", required=True, help="for example mobilenet_v2_1.0_224")
    plan.add_argument("--gpus", type=flags.positive, required=True, help="replicas")
    plan.add_argument("--recipe", default="published", help=flags.RECIPE_HELP)
    plan.add_argument(
        "--examples",
        type=flags.positive,
        default=NUM_TRAIN_IMAGES,
        help=f"training images [{NUM_TRAIN_IMAGES}]",
    )
    plan.add_argument(
        "--images-per-second", type=flags.positive, help="of all replicas; gives hours"
    )
    plan.add_argument("--price-per-hour", type=flags.amount, help="of all machines; gives the cost")
    plan.add_argument(
        "--gigabits-per-second",
        type=flags.positive,
        default=100,
        help="of one GPU's link to the others, for the model of their scaling [100]",
    )
    plan.add_argument("--plot", metavar="FILE", help="draw the schedule into this picture")
    flags.add_set(plan)

    diagnose = command("diagnose", "what limits the speed here: devices, cores or storage")
    diagnose.add_argument("--variant", required=True, help="for example mobilenet_v2_1.0_224")
    diagnose.add_argument("--recipe", default="published", help=flags.RECIPE_HELP)
    flags.add_records(diagnose)
    diagnose.add_argument(
        "--steps", type=flags.positive, default=20, help="to time, of each kind [20]"
    )
    flags.add_set(diagnose)

    service = command("data-service", "serve batches to trainers from this machine (tf.data)")
    service.add_argument("--role", choices=("dispatcher", "worker"), required=True)
    service.add_argument("--port", type=flags.positive, required=True, help="to listen on")
    service.add_argument("--work-dir", default="", help="the dispatcher's memory")
    service.add_argument("--dispatcher", default="", metavar="grpc://HOST:PORT")
    service.add_argument(
        "--host", default="localhost", help="the worker's name for trainers [localhost]"
    )

    dashboard = command("dashboard", "TensorBoard on a run")
    dashboard.add_argument("workdir", metavar="WORKDIR", help="folder of the run")
    dashboard.add_argument("--port", type=flags.positive, default=6006, help="[6006]")

    cluster_cli.add(command)
    return root


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; what follows `--` is for Beam."""
    ours, beam = list(argv), []
    if "--" in ours:
        cut = ours.index("--")
        ours, beam = ours[:cut], ours[cut + 1 :]
    root = parser()
    arguments = root.parse_args(ours)
    if beam and not any(
        item.takes_beam_flags for item in COMMANDS if item.name == arguments.command
    ):
        root.error(f"flags after -- go to Beam; {arguments.command} does not use it")
    arguments.beam_arguments = beam
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    processes.die_with_parent()
    arguments = parse(sys.argv[1:] if argv is None else argv)
    configure_logging(arguments.log_format)
    code = _run(function_of(arguments.command), arguments)
    if arguments.command == "train" and "TF_CONFIG" in os.environ:
        # A worker is done once it has said so: taking TensorFlow down may wait for others.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def function_of(name: str) -> Callable[[argparse.Namespace], Any]:
    """Return what the command `name` runs."""
    for item in COMMANDS:
        if item.name == name:
            return item.run
    from pipeline.cli import commands

    function: Callable[[argparse.Namespace], Any] = getattr(commands, name.replace("-", "_"))
    return function


def _run(command: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace) -> int:
    try:
        result = command(arguments)
    except (PermanentError, RetryError) as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        described = describe_os_error(error)
        return _fail(str(described), described.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again, it continues", 143)
    if result:
        print(json.dumps(result), flush=True)
    return 0


def _fail(message: str, code: int) -> int:
    if message:
        print(f"mobilenet: {message}", file=sys.stderr, flush=True)
    return code
