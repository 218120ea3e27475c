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
from training import synthetic
from training import workdir as workdirs
from training.cluster import Cluster
from training.config import RunConfig, override
from training.guard import hold_signals
from training.ownership import exclusive
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
    from preprocessing import imagenet
    from preprocessing.ingest import prepare
    from preprocessing.plan import ImageOptions

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
    from pipeline.inspection import inspect

    config = None
    if arguments.recipe:
        config = recipe(arguments.recipe, arguments.variant)
        import_tensorflow()
    return inspect(
        arguments.records, arguments.output, verify_bytes=arguments.verify, config=config
    )


def train(arguments: argparse.Namespace) -> Result:
    """`mobilenet train`: one worker of a cluster, or `--workers N` of them here."""
    config = _override(recipe(arguments.recipe, arguments.variant), arguments.set)
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
        from training.run import run_training

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
    manifest = _same_records(run, arguments.records)
    if arguments.follow:
        import_tensorflow()
        from training.failures import explained
        from training.follow import follow

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
            {**metrics["lineage"], "weights": metrics.get("weights")},
            {
                "checkpoint_step": step,
                "records_digest": manifest.digest,
                "config_digest": run.config_digest,
                "weights": arguments.weights,
            },
        )
        changed = [key for key, value in wanted.items() if there.get(key) != value]
        if changed:
            raise UsageError(
                f"{arguments.output} holds the export of another {', '.join(changed)}; "
                "choose another --output or delete it"
            )
        exports.require_intact(arguments.output, metrics)
    else:
        import_tensorflow()
        from pipeline.export import Export, export
        from training.failures import explained

        with explained(arguments.records):
            what = Export(
                workdir=arguments.workdir,
                records=arguments.records,
                run=run,
                manifest=manifest,
                weights=arguments.weights,
                int8_tolerance=arguments.int8_tolerance,
            )
            metrics = export(what, arguments.output)
    return {
        "export": arguments.output,
        "variant": metrics["variant"],
        "top1": {name: figures["top1"] for name, figures in metrics["formats"].items()},
    }


def benchmark(arguments: argparse.Namespace) -> Result:
    """`mobilenet benchmark`: measure an export on this host, and on a phone."""
    from pipeline.adb import Phone
    from pipeline.benchmark import benchmark

    if arguments.adb_serial and not arguments.adb:
        raise UsageError("--adb-serial needs --adb BINARY")
    phone = Phone(arguments.adb, arguments.adb_serial) if arguments.adb else None
    return benchmark(arguments.export, profile=arguments.profile, phone=phone)


def register(arguments: argparse.Namespace) -> Result:
    """`mobilenet register`: exports into the registry; a lost one is made anew from them."""
    from pipeline import gate, registry

    uri = arguments.registry or registry.default_uri()
    versions = []
    for folder in arguments.exports:
        metrics = exports.read_metrics(folder)
        gate.require_measured(folder, metrics)
        versions.append({"export": folder, **registry.register(folder, metrics, uri)})
    return {"registry": uri, "versions": versions}


def publish(arguments: argparse.Namespace) -> Result:
    """`mobilenet publish`: the gate, the registry, the upload, the index."""
    from pipeline import gate, registry
    from pipeline.publish import publish

    metrics = exports.read_metrics(arguments.export)
    gate.require_measured(arguments.export, metrics)
    folder = arguments.to or os.path.join(
        os.path.dirname(os.path.abspath(arguments.export)), "published"
    )
    uri = arguments.registry or registry.default_uri()
    registered = registry.register(arguments.export, metrics, uri)
    gate.require_champion(metrics, registry.champion(metrics["variant"], uri), arguments.force)
    entry = publish(arguments.export, metrics, registered, folder, arguments.overwrite)
    registry.mark_published(registered["model"], registered["version"], uri)
    return {
        **{
            key: entry[key] for key in ("variant", "top1", "top5", "macs", "parameters", "rejected")
        },
        "published": folder,
        "registry": registered,
    }


def fetch(arguments: argparse.Namespace) -> Result:
    """`mobilenet fetch`: a published model, verified, as an export directory."""
    from pipeline.fetch import fetch

    output = arguments.output or arguments.variant
    entry = fetch(arguments.variant, arguments.source, output)
    return {
        "export": output,
        **{key: entry[key] for key in ("variant", "sha256", "export_digest", "top1", "top5")},
    }


def compare(arguments: argparse.Namespace) -> Result:
    """`mobilenet compare`: figures on stdout, the tables on stderr."""
    from pipeline import compare, registry

    result = compare.compare(arguments.a, arguments.b, arguments.registry or registry.default_uri())
    print(compare.tables(result), file=sys.stderr)
    return result


def report(arguments: argparse.Namespace) -> Result:
    """`mobilenet report`: one HTML page of an export or of a published folder."""
    from pipeline.report import report

    return report(arguments.folder, arguments.output, arguments.records)


def table(arguments: argparse.Namespace) -> None:
    """`mobilenet table`: Markdown on stdout."""
    from pipeline import table as tables
    from pipeline.index import INDEX, read_index

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
    return planned.summary(
        arguments.images_per_second, arguments.price_per_hour, arguments.gigabits_per_second
    )


def diagnose(arguments: argparse.Namespace) -> Result:
    """`mobilenet diagnose`: what limits the speed of training here."""
    config = _override(recipe(arguments.recipe, arguments.variant), arguments.set)
    Manifest.read(arguments.records)
    import_tensorflow()
    from pipeline.diagnose import diagnose
    from training.failures import explained

    with explained(arguments.records):
        return diagnose(config, arguments.records, arguments.steps)


def data_service(arguments: argparse.Namespace) -> None:
    """`mobilenet data-service`: a dispatcher or a worker until killed."""
    if (arguments.role == "worker") != bool(arguments.dispatcher):
        raise UsageError("--dispatcher is needed for the role worker, and only for it")
    if (arguments.role == "dispatcher") != bool(arguments.work_dir):
        raise UsageError("--work-dir is needed for the role dispatcher, and only for it")
    import_tensorflow()
    from pipeline.data_service import serve_dispatcher, serve_worker

    if arguments.role == "dispatcher":
        serve_dispatcher(arguments.port, arguments.work_dir)
    else:
        serve_worker(arguments.dispatcher, arguments.port, arguments.host)


def import_checkpoint(arguments: argparse.Namespace) -> Result:
    """`mobilenet import-checkpoint`: a published slim checkpoint becomes a finished run."""
    variant = Variant.parse(arguments.variant)
    import_tensorflow()
    from training.initial import import_checkpoint

    with exclusive(arguments.workdir):
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
