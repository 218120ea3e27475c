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

    demo = command("demo", "the whole pipeline on a small real dataset, on this machine")
    demo.add_argument("--output", default="demo", help="folder for everything it makes [demo]")
    demo.add_argument(
        "--workers", type=flags.positive, default=2, help="local training processes [2]"
    )
    flags.add_set(demo)

    sample = command("sample", "write that dataset as ILSVRC2012 archives")
    sample.add_argument("--output", required=True, help="folder to make")

    prepare = command("prepare", "ImageNet archives to TFRecords; flags after -- go to Beam")
    prepare.add_argument("--source", required=True, help="folder of the archives")
    prepare.add_argument("--records", required=True, help="folder to write")
    for split, most in (("train", 1024), ("validation", 128)):
        prepare.add_argument(
            f"--{split}-shards",
            type=flags.positive,
            default=0,
            help=f"number of {split} shards [{most}, fewer for small data]",
        )
    prepare.add_argument("--seed", type=int, default=0, help="of the global shuffle [0]")
    prepare.add_argument(
        "--max-rejects", type=flags.natural, default=100, help="unreadable images to accept [100]"
    )
    prepare.add_argument(
        "--decode-check", action="store_true", help="decode every pixel, to find all damage"
    )
    prepare.add_argument(
        "--short-side",
        type=flags.positive,
        default=0,
        metavar="N",
        help="shrink images to N pixels on the shorter side [keep the original bytes]",
    )
    prepare.add_argument(
        "--quality",
        type=flags.quality,
        default=90,
        help="of the JPEGs that --short-side makes [90]",
    )
    prepare.add_argument(
        "--workers", type=flags.positive, default=0, help="local processes [one more than cores]"
    )
    prepare.add_argument("--overwrite", action="store_true", help="replace other records")

    inspect = command("inspect", "counts, sizes, duplicates and pictures of records")
    inspect.add_argument("records", metavar="RECORDS", help="folder that `prepare` wrote")
    inspect.add_argument(
        "--verify", action="store_true", help="read every shard and compare all digests"
    )
    inspect.add_argument(
        "--output", default="inspection", help="folder for the pictures [inspection]"
    )
    inspect.add_argument(
        "--recipe", default="", help="also draw training images as this recipe augments them"
    )
    inspect.add_argument(
        "--variant",
        default="mobilenet_v2_1.0_224",
        help="at whose resolution [mobilenet_v2_1.0_224]",
    )

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

    export = command("export", "every format, each checked against the checkpoint")
    export.add_argument("--workdir", required=True, help="folder of the run")
    flags.add_records(export)
    export.add_argument("--output", required=True, help="export directory to make")
    export.add_argument(
        "--int8-tolerance", type=float, default=0.02, help="top-1 that int8 may lose [0.02]"
    )
    export.add_argument(
        "--weights",
        choices=("ema", "raw"),
        default="ema",
        help="averages, or the weights of the last step [ema]",
    )

    benchmark = command("benchmark", "latency, memory and size of an export's TF-Lite files")
    benchmark.add_argument("export", metavar="EXPORT", help="export directory")
    benchmark.add_argument(
        "--profile", action="store_true", help="also time every operator on its own"
    )
    benchmark.add_argument(
        "--adb",
        default="",
        metavar="BINARY",
        help="also on the phone that adb finds, with this benchmark_model binary",
    )
    benchmark.add_argument("--adb-serial", default="", help="which phone, of several")

    publish = command("publish", "register an export, pack it and refresh the table")
    publish.add_argument("export", metavar="EXPORT", help="export directory")
    publish.add_argument("--to", help="folder to publish in [published, beside EXPORT]")
    flags.add_registry(publish)
    publish.add_argument("--overwrite", action="store_true", help="replace a published variant")
    publish.add_argument(
        "--force", action="store_true", help="publish even what is worse than the champion"
    )

    register = command("register", "exports into the registry, without publishing them")
    register.add_argument("exports", nargs="+", metavar="EXPORT", help="export directory")
    flags.add_registry(register)

    fetch = command("fetch", "download a published model and verify it")
    fetch.add_argument("variant", metavar="NAME", help="for example mobilenet_v2_1.0_224")
    fetch.add_argument("--from", dest="source", required=True, help="folder, gs:// or https://")
    fetch.add_argument("--output", help="export directory to make [NAME]")

    compare = command("compare", "two models side by side: every metric, every class")
    for name in ("a", "b"):
        compare.add_argument(
            name, metavar=name.upper(), help="export directory, VARIANT@champion or VARIANT/VERSION"
        )
    flags.add_registry(compare)

    report = command("report", "one HTML page: table, plots, predictions, worst mistakes")
    report.add_argument("folder", metavar="FOLDER", help="export directory, or a published folder")
    report.add_argument("--output", required=True, help="HTML file to write")
    report.add_argument("--records", help="the records it was measured on, to show their images")

    table = command("table", "the published table, and a folder of ours beside it (Markdown)")
    table.add_argument("--published", help="folder that `mobilenet publish` wrote")

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

    registry = command("registry", "the embedded registry's page (MLflow)")
    registry.add_argument("--database", help="its SQLite file [the one in your data folder]")
    registry.add_argument("--port", type=flags.positive, default=5000, help="[5000]")

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
    if beam and arguments.command != "prepare":
        root.error(f"flags after -- go to Beam; {arguments.command} does not use it")
    arguments.beam_arguments = beam
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    processes.die_with_parent()
    arguments = parse(sys.argv[1:] if argv is None else argv)
    configure_logging(arguments.log_format)
    from pipeline.cli import commands

    code = _run(getattr(commands, arguments.command.replace("-", "_")), arguments)
    if arguments.command == "train" and "TF_CONFIG" in os.environ:
        # A worker is done once it has said so: taking TensorFlow down may wait for others.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


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
