"""What each command does: check what is there, do what is missing, return the result.

Whatever is complete is recognised before TensorFlow, Beam or MLflow is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from pipeline import exports, processes
from pipeline.cluster.commands import doctor, jobs, launch, logs, resume, stop, watch
from pipeline.quiet import import_tensorflow
from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.schema import Manifest
from training import workdir as workdirs
from training.cluster import Cluster
from training.config import RunConfig, override
from training.recipes import recipe
from training.variants import Variant

Result = dict[str, Any]

__all__ = ["doctor", "jobs", "launch", "logs", "resume", "stop", "watch"]  # from there to here


def sample(arguments: argparse.Namespace) -> Result:
    """`mobilenet sample`."""
    from pipeline.sample import write_sample

    return {"archives": arguments.output, **write_sample(arguments.output)}


def prepare(arguments: argparse.Namespace) -> Result:
    """`mobilenet prepare`."""
    from preprocessing.ingest import prepare

    manifest = prepare(
        arguments.source,
        arguments.records,
        num_shards={"train": arguments.train_shards, "validation": arguments.validation_shards},
        seed=arguments.seed,
        max_rejects=arguments.max_rejects,
        overwrite=arguments.overwrite,
        beam_arguments=arguments.beam_arguments,
    )
    for reject in manifest.rejects:
        print(f"prepare: rejected {reject.key}: {reject.reason}", file=sys.stderr)
    return {
        "records": arguments.records,
        "digest": manifest.digest,
        "classes": len(manifest.classes),
        "examples": {split: manifest.num_examples(split) for split in manifest.shards},
        "repaired": manifest.repaired,
        "rejected": len(manifest.rejects),
    }


def train(arguments: argparse.Namespace) -> Result:
    """`mobilenet train`: one worker of a cluster, or `--workers N` of them here."""
    config = _override(recipe(arguments.recipe, arguments.variant), arguments.set)
    manifest = Manifest.read(arguments.records)
    cluster = Cluster.from_environment()
    if arguments.workers > 1 and len(cluster.workers) > 1:
        raise UsageError("--workers starts local processes; in a cluster TF_CONFIG says who works")
    initial_digest = _initial_digest(arguments.initial_checkpoint)
    done = _finished_training(arguments.workdir, config, manifest, initial_digest)
    if not done and arguments.workers > 1:
        with workdirs.exclusive(arguments.workdir):
            code = processes.run_workers(_as_worker(arguments), arguments.workers)
        if code:
            raise processes.failure("train", code)
        done = workdirs.read_progress(arguments.workdir)
    elif not done:
        import_tensorflow()
        from training.run import run_training

        alone = len(cluster.workers) == 1  # otherwise whoever started us watches over the folder
        with workdirs.exclusive(arguments.workdir) if alone else contextlib.nullcontext():
            done = run_training(
                config, arguments.records, arguments.workdir, cluster, arguments.initial_checkpoint
            )
        if not cluster.is_chief:
            return {}
    return {"workdir": arguments.workdir, **done}


def evaluate(arguments: argparse.Namespace) -> Result:
    """`mobilenet evaluate`."""
    run = workdirs.Run.read(arguments.workdir)
    manifest = _same_records(run, arguments.records)
    path = storage.join(arguments.workdir, "evaluation.json")
    step = workdirs.newest_checkpoint_step(arguments.workdir)
    if storage.exists(path):
        known: Result = storage.read_json(path)
        if known["step"] == step and known["records_digest"] == manifest.digest:
            return known
    import_tensorflow()
    import tensorflow as tf

    from training.checkpoint import load_state
    from training.data import Records
    from training.evaluate import Evaluator
    from training.failures import explained

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


def export(arguments: argparse.Namespace) -> Result:
    """`mobilenet export`."""
    run = workdirs.Run.read(arguments.workdir)
    manifest = _same_records(run, arguments.records)
    step = workdirs.newest_checkpoint_step(arguments.workdir)
    if os.path.exists(arguments.output):
        if not exports.is_export(arguments.output):
            raise UsageError(f"{arguments.output} is there and no export; choose another --output")
        metrics = exports.read_metrics(arguments.output)
        there, wanted = (
            metrics["lineage"],
            {
                "checkpoint_step": step,
                "records_digest": manifest.digest,
                "config_digest": run.config_digest,
            },
        )
        changed = [key for key, value in wanted.items() if there[key] != value]
        if changed:
            raise UsageError(
                f"{arguments.output} holds the export of another {', '.join(changed)}; "
                "choose another --output or delete it"
            )
        exports.require_intact(arguments.output, metrics)
    else:
        import_tensorflow()
        from pipeline.export import export
        from training.failures import explained

        with explained(arguments.records):
            metrics = export(
                arguments.workdir,
                arguments.records,
                arguments.output,
                run,
                manifest,
                arguments.int8_tolerance,
            )
    return {
        "export": arguments.output,
        "variant": metrics["variant"],
        "top1": {name: figures["top1"] for name, figures in metrics["formats"].items()},
    }


def publish(arguments: argparse.Namespace) -> Result:
    """`mobilenet publish`: register, pack, index, refresh the table."""
    from pipeline import registry
    from pipeline.publish import publish, published_entry

    metrics = exports.read_metrics(arguments.export)
    exports.require_intact(arguments.export, metrics)
    folder = arguments.to or os.path.join(
        os.path.dirname(os.path.abspath(arguments.export)), "published"
    )
    registered = registry.register(
        arguments.export, metrics, arguments.registry or registry.default_uri()
    )
    entry = published_entry(folder, metrics) or publish(
        arguments.export, metrics, registered, folder, arguments.overwrite
    )
    return {
        **{
            key: entry[key] for key in ("variant", "top1", "top5", "macs", "parameters", "rejected")
        },
        "published": folder,
        "registry": registered,
    }


def table(arguments: argparse.Namespace) -> None:
    """`mobilenet table`: Markdown on stdout."""
    from pipeline import table as tables
    from pipeline.publish import INDEX, read_index

    if arguments.published:
        if not storage.exists(storage.join(arguments.published, INDEX)):
            raise UsageError(f"{arguments.published} publishes nothing; it has no {INDEX}")
        print(tables.ours(read_index(arguments.published)))
    print(tables.published(), end="")


def plan(arguments: argparse.Namespace) -> Result:
    """`mobilenet plan`: figures on stdout, the schedule on stderr and as a picture."""
    from pipeline.plan import Plan

    if arguments.price_per_hour is not None and arguments.images_per_second is None:
        raise UsageError("--price-per-hour needs --images-per-second to know the hours")
    planned = Plan(
        config=_override(recipe(arguments.recipe, arguments.variant), arguments.set),
        num_replicas=arguments.gpus,
        num_examples=arguments.examples,
    )
    if arguments.plot:
        planned.plot(arguments.plot)
    print(planned.table(), file=sys.stderr)
    return planned.summary(arguments.images_per_second, arguments.price_per_hour)


def import_checkpoint(arguments: argparse.Namespace) -> Result:
    """`mobilenet import-checkpoint`: a published slim checkpoint becomes a finished run."""
    variant = Variant.parse(arguments.variant)
    import_tensorflow()
    from training.initial import import_checkpoint

    with workdirs.exclusive(arguments.workdir):
        progress = import_checkpoint(
            arguments.checkpoint, variant, arguments.workdir, arguments.weights
        )
    return {"workdir": arguments.workdir, **progress}


def dashboard(arguments: argparse.Namespace) -> None:
    """`mobilenet dashboard`: TensorBoard until interrupted."""
    folder = workdirs.tensorboard_folder(arguments.workdir)
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
    from pipeline import registry as registries

    _require_free(arguments.port)
    database = arguments.database or registries.sqlite_file(registries.default_uri())
    if database is None:
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {registries.default_uri()}, a server with a page of its own; "
            "open it in a browser"
        )
    registries.serve(database, arguments.port)


def demo(arguments: argparse.Namespace) -> Result:
    """`mobilenet demo`."""
    from pipeline.demo import VARIANT, run_demo

    _override(recipe("demo", VARIANT), arguments.set)  # refuse a mistake before doing anything
    return run_demo(arguments.output, arguments.workers, arguments.set)


def _override(config: RunConfig, assignments: Sequence[str]) -> RunConfig:
    for assignment in assignments:
        config = override(config, assignment)
    return config


def _as_worker(arguments: argparse.Namespace) -> list[str]:
    """The same command for one local worker."""
    return [
        "train",
        f"--variant={arguments.variant}",
        f"--recipe={arguments.recipe}",
        f"--records={arguments.records}",
        f"--workdir={arguments.workdir}",
        f"--initial-checkpoint={arguments.initial_checkpoint}",
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


def _same_records(run: workdirs.Run, records: str) -> Manifest:
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


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} is in use ({error.strerror}); choose another with --port"
            ) from None
