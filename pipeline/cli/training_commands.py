"""The commands around a run: train it, evaluate it, plan it, find out what limits it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from pipeline.local import processes
from pipeline.local.quiet import import_tensorflow
from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from training.config import RunConfig, override_all
from training.config.recipes import recipe
from training.input import synthetic
from training.models.variants import Variant
from training.weights.content_digest import checkpoint_digest
from training.workdir.lock import exclusive
from training.workdir.progress import Progress
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir
from training.workers.cluster import Cluster
from training.workers.watchdog import hold_signals

Result = dict[str, Any]


def train(arguments: argparse.Namespace) -> Result:
    """`mobilenet train`: one worker of a cluster, or `--workers N` of them here."""
    config = _config(arguments)
    manifest = synthetic.read_manifest(arguments.records)
    cluster = Cluster.from_environment()
    if arguments.workers > 1 and len(cluster.workers) > 1:
        raise UsageError("--workers starts local processes; in a cluster TF_CONFIG says who works")
    initial_digest = _initial_digest(arguments.initial_checkpoint)
    workdir = Workdir(arguments.workdir)
    done = _finished_training(workdir, config, manifest, initial_digest)
    if not done and arguments.workers > 1:
        with exclusive(workdir):
            code = processes.run_workers(
                _as_worker(arguments), arguments.workers, config.loop.grace_seconds
            )
        if code:
            raise processes.failure("train", code)
        done = workdir.read_progress()
    elif not done:
        hold_signals()
        import_tensorflow()
        from training.loop.run import run_training
        from training.loop.train_job import TrainJob

        alone = len(cluster.workers) == 1  # otherwise whoever started us watches over the folder
        with exclusive(workdir) if alone else contextlib.nullcontext():
            done = run_training(
                TrainJob(
                    config=config,
                    records=arguments.records,
                    workdir=workdir,
                    cluster=cluster,
                    initial_checkpoint=arguments.initial_checkpoint or None,
                    profile_steps=arguments.profile,
                    data_service=arguments.data_service or None,
                )
            )
        if not cluster.is_chief:
            return {}
    return {"workdir": arguments.workdir, **done.to_json()}


def evaluate(arguments: argparse.Namespace) -> Result:
    """`mobilenet evaluate`."""
    workdir = Workdir(arguments.workdir)
    run = workdir.read_run()
    manifest = same_records(run, arguments.records)
    if arguments.follow:
        import_tensorflow()
        from training.loop.follow import follow
        from training.workers.failures import explained

        with explained(arguments.records):
            last = follow(workdir, arguments.records, manifest)
        return {"workdir": arguments.workdir, **(last.to_json() if last else {})}
    path = workdir.final_evaluation_file
    step = workdir.newest_checkpoint_step()
    if storage.exists(path):
        known: Result = storage.read_json(path)
        if known["step"] == step and known["records_digest"] == manifest.digest:
            return known
    import_tensorflow()
    import tensorflow as tf

    from training.input.data import Records
    from training.loop.evaluate import Evaluator
    from training.weights.run_weights import load_state
    from training.workers.failures import explained

    with explained(arguments.records):
        state = load_state(workdir, run)
        step = state.step
        accuracy = Evaluator(
            tf.distribute.get_strategy(),
            state.averaged_model,
            Records(arguments.records, manifest, "validation"),
            run.config.evaluation,
            batch_per_replica=100,  # slim's eval_image_classifier
        ).run()
    print(
        f"evaluate: top-1 {accuracy.top1:.4f}, top-5 {accuracy.top5:.4f} on "
        f"{accuracy.examples} images, averaged weights of step {step}",
        file=sys.stderr,
    )
    result = {
        "workdir": arguments.workdir,
        "step": step,
        "top1": accuracy.top1,
        "top5": accuracy.top5,
        "examples": accuracy.examples,
        "records_digest": manifest.digest,
    }
    storage.write_json(path, result)
    return result


def plan(arguments: argparse.Namespace) -> Result:
    """`mobilenet plan`: figures on stdout, the schedule on stderr and as a picture."""
    from pipeline.planning.run_plan import Plan

    if arguments.price_per_hour is not None and arguments.images_per_second is None:
        raise UsageError("--price-per-hour needs --images-per-second to know the hours")
    planned = Plan(
        config=override_all(
            recipe(arguments.recipe, Variant.parse(arguments.variant)), arguments.set
        ),
        num_replicas=arguments.gpus,
        num_examples=arguments.examples,
    )
    if arguments.plot:
        planned.plot(arguments.plot)
    print(planned.table(), file=sys.stderr)
    return planned.summary(
        arguments.images_per_second, arguments.price_per_hour, arguments.gigabits_per_second
    )


def diagnose(arguments: argparse.Namespace) -> Result:
    """`mobilenet diagnose`: what limits the speed of training here."""
    config = _config(arguments)
    Manifest.read(arguments.records)
    import_tensorflow()
    from pipeline.planning.diagnosis import diagnose
    from training.workers.failures import explained

    with explained(arguments.records):
        return diagnose(config, arguments.records, arguments.steps)


def data_service(arguments: argparse.Namespace) -> None:
    """`mobilenet data-service`: a dispatcher or a worker until killed."""
    if (arguments.role == "worker") != bool(arguments.dispatcher):
        raise UsageError("--dispatcher is needed for the role worker, and only for it")
    if (arguments.role == "dispatcher") != bool(arguments.work_dir):
        raise UsageError("--work-dir is needed for the role dispatcher, and only for it")
    import_tensorflow()
    from pipeline.local.data_service_server import serve_dispatcher, serve_worker

    if arguments.role == "dispatcher":
        serve_dispatcher(arguments.port, arguments.work_dir)
    else:
        serve_worker(arguments.dispatcher, arguments.port, arguments.host)


def import_checkpoint(arguments: argparse.Namespace) -> Result:
    """`mobilenet import-checkpoint`: a published slim checkpoint becomes a finished run."""
    variant = Variant.parse(arguments.variant)
    import_tensorflow()
    from training.weights.initial import import_checkpoint

    workdir = Workdir(arguments.workdir)
    with exclusive(workdir):
        progress = import_checkpoint(arguments.checkpoint, variant, workdir, arguments.weights)
    return {"workdir": arguments.workdir, **progress.to_json()}


def _config(arguments: argparse.Namespace) -> RunConfig:
    chosen = recipe(arguments.recipe, Variant.parse(arguments.variant))
    return override_all(chosen, arguments.set)


def same_records(run: Run, records: str) -> Manifest:
    """The manifest of `records`, if they are those of the run.

    Raises:
        UsageError: They are others.
    """
    manifest = Manifest.read(records)
    if not run.records_digest:  # imported: any records with its classes will do
        if len(manifest.classes) != run.num_classes:
            raise UsageError(
                f"{records} have {len(manifest.classes)} classes, the imported checkpoint has "
                f"{run.num_classes}"
            )
        return manifest
    if manifest.digest != run.records_digest:
        raise UsageError(
            f"{records} are not the records this run was trained on (digest "
            f"{manifest.digest[:12]}, trained on {run.records_digest[:12]})"
        )
    return manifest


def _as_worker(arguments: argparse.Namespace) -> list[str]:
    """The same command for one local worker."""
    return [
        "train",
        f"--variant={arguments.variant}",
        f"--recipe={arguments.recipe}",
        f"--records={arguments.records}",
        f"--workdir={arguments.workdir}",
        f"--initial-checkpoint={arguments.initial_checkpoint}",
        f"--profile={arguments.profile}",
        f"--data-service={arguments.data_service}",
        *(f"--set={assignment}" for assignment in arguments.set),
    ]


def _initial_digest(path: str) -> str | None:
    if not path:
        return None
    if not any(storage.exists(each) for each in (path, f"{path}.index")):
        raise UsageError(
            f"--initial-checkpoint {path} does not exist; pass a checkpoint's prefix (the part "
            "before .index), its folder or the published .tgz"
        )
    return checkpoint_digest(path)


def _finished_training(
    workdir: Workdir, config: RunConfig, manifest: Manifest, initial_checkpoint: str | None
) -> Progress | None:
    """Return the progress of a finished run of this very config, if `workdir` holds it."""
    progress = workdir.read_progress()
    if not progress.complete:
        return None
    run = workdir.read_run()
    wanted = Run.create(config, manifest, run.num_replicas, initial_checkpoint)
    workdir.require_same_run(run, wanted)
    return progress
