"""What each command does: check what is there, do what is missing, return the result.

Whatever is complete is recognised before TensorFlow, Beam or MLflow is imported. `cli` looks
the functions up here by the names of the commands.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys

from pipeline.cli.cluster_commands import doctor, jobs, launch, logs, resume, stop, watch
from pipeline.cli.release_commands import (
    benchmark,
    compare,
    export,
    fetch,
    publish,
    register,
    report,
    table,
)
from pipeline.cli.training_commands import (
    Result,
    data_service,
    diagnose,
    evaluate,
    import_checkpoint,
    plan,
    train,
)
from pipeline.local.quiet import import_tensorflow
from preprocessing import storage
from preprocessing.errors import UsageError
from training.config import override_all
from training.config.recipes import recipe
from training.models.variants import Variant
from training.workdir.workdir import Workdir

__all__ = [
    "benchmark",
    "compare",
    "dashboard",
    "data_service",
    "demo",
    "diagnose",
    "doctor",
    "evaluate",
    "export",
    "fetch",
    "import_checkpoint",
    "inspect",
    "jobs",
    "launch",
    "logs",
    "plan",
    "prepare",
    "publish",
    "register",
    "registry",
    "report",
    "resume",
    "sample",
    "stop",
    "table",
    "train",
    "watch",
]


def sample(arguments: argparse.Namespace) -> Result:
    """`mobilenet sample`."""
    from pipeline.demo.sample import write_sample

    return {"archives": arguments.output, **write_sample(arguments.output)}


def prepare(arguments: argparse.Namespace) -> Result:
    """`mobilenet prepare`."""
    from preprocessing.ingest import prepare
    from preprocessing.ingest_plan import ImageOptions
    from preprocessing.records import imagenet

    manifest = prepare(
        arguments.source,
        arguments.records,
        num_shards={"train": arguments.train_shards, "validation": arguments.validation_shards},
        seed=arguments.seed,
        image=ImageOptions(
            decode_check=arguments.decode_check,
            short_side=arguments.short_side,
            quality=arguments.quality,
        ),
        max_rejects=arguments.max_rejects,
        overwrite=arguments.overwrite,
        num_workers=arguments.workers,
        beam_arguments=arguments.beam_arguments,
    )
    for reject in manifest.rejects:
        print(f"prepare: rejected {reject.key}: {reject.reason}", file=sys.stderr)
    verdict = imagenet.verdict(manifest)
    if verdict:
        differences = "; ".join(verdict["differences"])
        print(
            f"prepare: {differences or 'all totals are those of ImageNet'}",
            file=sys.stderr,
        )
    return {
        "records": arguments.records,
        "digest": manifest.digest,
        "classes": len(manifest.classes),
        "examples": {split: manifest.num_examples(split) for split in manifest.shards},
        "repaired": manifest.repaired,
        "rejected": len(manifest.rejects),
        "duplicates": {
            where: count
            for where, count in manifest.statistics["duplicates"].items()
            if where != "named"
        },
        "imagenet": verdict,
    }


def inspect(arguments: argparse.Namespace) -> Result:
    """`mobilenet inspect`."""
    from pipeline.inspection.inspection import inspect

    config = None
    if arguments.recipe:
        config = recipe(arguments.recipe, Variant.parse(arguments.variant))
        import_tensorflow()
    return inspect(
        arguments.records, arguments.output, verify_bytes=arguments.verify, config=config
    )


def demo(arguments: argparse.Namespace) -> Result:
    """`mobilenet demo`."""
    from pipeline.demo.demo import VARIANT, run_demo

    override_all(
        recipe("demo", Variant.parse(VARIANT)), arguments.set
    )  # refuse a mistake before doing anything
    return run_demo(arguments.output, arguments.workers, arguments.set)


def dashboard(arguments: argparse.Namespace) -> None:
    """`mobilenet dashboard`: TensorBoard until interrupted."""
    folder = Workdir(arguments.workdir).tensorboard_folder
    if not storage.exists(folder):
        raise UsageError(f"{arguments.workdir} has no events yet; start `mobilenet train` first")
    _require_free(arguments.port)
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-m",
            "tensorboard.main",
            f"--logdir={folder}",
            f"--port={arguments.port}",
            "--host=127.0.0.1",
        ],
    )


def registry(arguments: argparse.Namespace) -> None:
    """`mobilenet registry`: MLflow's page until interrupted."""
    from pipeline.publish import registry as registries

    _require_free(arguments.port)
    database = arguments.database or registries.sqlite_file(registries.default_uri())
    if database is None:
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {registries.default_uri()}, a server with a page of its own; "
            "open it in a browser"
        )
    registries.serve(database, arguments.port)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} is in use ({error.strerror}); choose another with --port"
            ) from None
