"""`mobilenet train`: one worker of a cluster, or several workers here."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from pipeline.cli import flags
from pipeline.cli.command import Command, Result
from training.config import SYNTHETIC, RunConfig

if TYPE_CHECKING:
    from preprocessing.records.schema import Manifest
    from training.workdir.progress import Progress
    from training.workdir.workdir import Workdir
    from training.workers.cluster import Cluster


def _add_flags(parser: argparse.ArgumentParser) -> None:
    flags.add_variant(parser)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--records", help="folder that `prepare` wrote")
    images.add_argument(
        "--synthetic",
        dest="records",
        action="store_const",
        const=SYNTHETIC,
        help="no dataset: noise that costs nothing, to prove a cluster",
    )
    parser.add_argument(
        "--data-service",
        default="",
        metavar="grpc://HOST:PORT",
        help="let a tf.data service make the batches",
    )
    parser.add_argument("--workdir", required=True, help="folder of the run; rerun to resume")
    parser.add_argument(
        "--workers", type=flags.positive, default=1, help="processes to start here [1]"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--initial-checkpoint",
        default="",
        metavar="CKPT",
        help="slim checkpoint (prefix, folder or .tgz) or Keras .weights.h5 to fine-tune",
    )
    start.add_argument(
        "--fork",
        default="",
        metavar="WORKDIR",
        help="go on from the newest checkpoint of another run, with these settings",
    )
    parser.add_argument(
        "--profile",
        type=flags.natural,
        default=0,
        metavar="STEPS",
        help="trace about this many steps for TensorBoard's profile page [0]",
    )
    flags.add_settings(parser)


def _run(arguments: argparse.Namespace) -> Result:
    from preprocessing.errors import UsageError
    from training.input import synthetic
    from training.workdir.workdir import Workdir
    from training.workers.cluster import Cluster

    manifest = synthetic.read_manifest(arguments.records)
    config = flags.chosen_config(arguments, manifest.num_examples("train"))
    cluster = Cluster.from_environment()
    if arguments.workers > 1 and cluster.has_peers:
        raise UsageError("--workers starts local processes; in a cluster TF_CONFIG says who works")
    initial_digest = _initial_digest(arguments.initial_checkpoint)
    workdir = Workdir(arguments.workdir)
    progress = _finished_training(workdir, config, manifest, initial_digest, arguments.fork)
    if not progress and arguments.workers > 1:
        progress = _train_with_workers(arguments, config, workdir)
    elif not progress:
        progress = _train_here(arguments, config, workdir, cluster)
        if not cluster.is_chief:
            return {}
    return {"workdir": arguments.workdir, **progress.to_json()}


def _train_with_workers(
    arguments: argparse.Namespace, config: RunConfig, workdir: Workdir
) -> Progress:
    """Train with local worker processes, of which the chief holds a workdir in a bucket."""
    from pipeline.local import processes
    from preprocessing import storage
    from training.workdir.lock import exclusive_here

    paths = (arguments.records, arguments.workdir, arguments.initial_checkpoint, arguments.fork)
    with exclusive_here(workdir):
        code = processes.run_workers(
            _as_worker(arguments),
            arguments.workers,
            config.loop.grace_seconds,
            outside=[
                *(path for path in paths if path and storage.is_remote(path)),
                *([arguments.data_service] if arguments.data_service else []),
            ],
        )
    if code:
        raise processes.failure("train", code)
    return workdir.read_progress()


def _train_here(
    arguments: argparse.Namespace, config: RunConfig, workdir: Workdir, cluster: Cluster
) -> Progress:
    """Train in this process, as one worker of `cluster`."""
    from pipeline.local.quiet import import_tensorflow
    from training.workdir.lock import exclusive
    from training.workers.watchdog import hold_signals

    hold_signals()
    import_tensorflow()
    from training.loop.run import run_training
    from training.loop.train_job import TrainJob

    job = TrainJob(
        config=config,
        records=arguments.records,
        workdir=workdir,
        cluster=cluster,
        initial_checkpoint=arguments.initial_checkpoint or None,
        fork=arguments.fork or None,
        profile_steps=arguments.profile,
        data_service=arguments.data_service or None,
    )
    alone = not cluster.has_peers  # otherwise whoever started us holds the folder
    with exclusive(workdir) if alone else contextlib.nullcontext():
        return run_training(job)


def _as_worker(arguments: argparse.Namespace) -> list[str]:
    """Return the same command for one local worker."""
    return [
        "train",
        f"--log-format={arguments.log_format}",
        f"--variant={arguments.variant}",
        f"--recipe={arguments.recipe}",
        f"--records={arguments.records}",
        f"--workdir={arguments.workdir}",
        *(
            [f"--initial-checkpoint={arguments.initial_checkpoint}"]
            if arguments.initial_checkpoint
            else []
        ),
        *([f"--fork={arguments.fork}"] if arguments.fork else []),
        f"--profile={arguments.profile}",
        f"--data-service={arguments.data_service}",
        *(f"--set={assignment}" for assignment in arguments.set),
    ]


def _initial_digest(path: str) -> str | None:
    """Return the digest of `--initial-checkpoint`, if it is given."""
    from preprocessing import storage
    from preprocessing.errors import UsageError
    from training.weights.at_hand import at_hand
    from training.weights.content_digest import checkpoint_digest

    if not path:
        return None
    if not any(storage.exists(candidate) for candidate in (path, f"{path}.index")):
        raise UsageError(
            f"--initial-checkpoint {path} does not exist; pass a checkpoint's prefix (the part "
            "before .index), its folder or the published .tgz"
        )
    with at_hand(path) as checkpoint:
        return checkpoint_digest(checkpoint)


def _finished_training(
    workdir: Workdir,
    config: RunConfig,
    manifest: Manifest,
    initial_digest: str | None,
    origin: str,
) -> Progress | None:
    """Return the progress of a finished run of this very config, if `workdir` holds it."""
    from training.workdir.forks import fork_of
    from training.workdir.run_record import Run

    progress = workdir.read_progress()
    if not progress.complete:
        return None
    run = workdir.read_run()
    fork = fork_of(origin, workdir, config, manifest) if origin else None
    wanted = Run.create(config, manifest, run.num_replicas, initial_digest, fork)
    workdir.require_same_run(run, wanted)
    return progress


COMMAND = Command(
    name="train",
    summary="train here, with local workers, or as TF_CONFIG says",
    add_flags=_add_flags,
    run=_run,
)
