"""The commands around a run: train it, evaluate it, plan it, find out what limits it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.local import processes
from pipeline.local.quiet import import_tensorflow
from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.records.schema import Manifest
from training.config import RunConfig, override
from training.config.recipes import recipe
from training.input import synthetic
from training.models.variants import Variant
from training.workdir import workdir as workdirs
from training.workdir.lock import exclusive
from training.workers.cluster import Cluster
from training.workers.watchdog import hold_signals

Result = dict[str, Any]


def train(arguments: argparse.Namespace) -> Result:
    """`mobilenet train`: one worker of a cluster, or `--workers N` of them here."""
    config = overridden(recipe(arguments.recipe, arguments.variant), arguments.set)
    manifest = synthetic.read_manifest(arguments.records)
    cluster = Cluster.from_environment()
    if arguments.workers > 1 and len(cluster.workers) > 1:
        raise UsageError("--workers starts local processes; in a cluster TF_CONFIG says who works")
    initial_digest = _initial_digest(arguments.initial_checkpoint)
    done = _finished_training(arguments.workdir, config, manifest, initial_digest)
    if not done and arguments.workers > 1:
        with exclusive(arguments.workdir):
            code = processes.run_workers(
                _as_worker(arguments), arguments.workers, config.loop.grace_seconds
            )
        if code:
            raise processes.failure("train", code)
        done = workdirs.read_progress(arguments.workdir)
    elif not done:
        hold_signals()
        import_tensorflow()
        from training.loop.run import run_training

        alone = len(cluster.workers) == 1  # otherwise whoever started us watches over the folder
        with exclusive(arguments.workdir) if alone else contextlib.nullcontext():
            done = run_training(
                config,
                arguments.records,
                arguments.workdir,
                cluster,
                arguments.initial_checkpoint,
                arguments.profile,
                arguments.data_service,
            )
        if not cluster.is_chief:
            return {}
    return {"workdir": arguments.workdir, **done}


def evaluate(arguments: argparse.Namespace) -> Result:
    """`mobilenet evaluate`."""
    run = workdirs.Run.read(arguments.workdir)
    manifest = same_records(run, arguments.records)
    if arguments.follow:
        import_tensorflow()
        from training.loop.follow import follow
        from training.workers.failures import explained

        with explained(arguments.records):
            return {
                "workdir": arguments.workdir,
                **follow(arguments.workdir, arguments.records, manifest),
            }
    path = storage.join(arguments.workdir, "evaluation.json")
    step = workdirs.newest_checkpoint_step(arguments.workdir)
    if storage.exists(path):
        known: Result = storage.read_json(path)
        if known["step"] == step and known["records_digest"] == manifest.digest:
            return known
    import_tensorflow()
    import tensorflow as tf

    from training.input.data import Records
    from training.loop.evaluate import Evaluator
    from training.workdir.checkpoint import load_state
    from training.workers.failures import explained

    with explained(arguments.records):
        state = load_state(arguments.workdir, run)
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
        config=overridden(recipe(arguments.recipe, arguments.variant), arguments.set),
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
    config = overridden(recipe(arguments.recipe, arguments.variant), arguments.set)
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

    with exclusive(arguments.workdir):
        progress = import_checkpoint(
            arguments.checkpoint, variant, arguments.workdir, arguments.weights
        )
    return {"workdir": arguments.workdir, **progress}


def overridden(config: RunConfig, assignments: Sequence[str]) -> RunConfig:
    """`config` with each `section.field=value` of `--set`."""
    for assignment in assignments:
        config = override(config, assignment)
    return config


def same_records(run: workdirs.Run, records: str) -> Manifest:
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


def _initial_digest(path: str) -> str:
    if not path:
        return ""
    if not any(storage.exists(each) for each in (path, f"{path}.index")):
        raise UsageError(
            f"--initial-checkpoint {path} does not exist; pass a checkpoint's prefix (the part "
            "before .index), its folder or the published .tgz"
        )
    return workdirs.checkpoint_digest(path)


def _finished_training(
    workdir: str, config: RunConfig, manifest: Manifest, initial_checkpoint: str
) -> Result | None:
    """The progress of a finished run of this very config, if that is what `workdir` holds."""
    progress = workdirs.read_progress(workdir)
    if not progress["complete"]:
        return None
    run = workdirs.Run.read(workdir)
    wanted = workdirs.Run.create(config, manifest, run.num_replicas, initial_checkpoint)
    workdirs.require_same_run(workdir, run, wanted)
    return progress
