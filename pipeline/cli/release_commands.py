"""The commands from a run to published files: export, measure, publish, fetch, compare."""

from __future__ import annotations

import argparse
import os
import sys

from pipeline.cli.training_commands import Result, same_records
from pipeline.export import directory
from pipeline.local.quiet import import_tensorflow
from preprocessing import storage
from preprocessing.errors import UsageError
from training.workdir.workdir import Workdir


def export(arguments: argparse.Namespace) -> Result:
    """`mobilenet export`."""
    workdir = Workdir(arguments.workdir)
    run = workdir.read_run()
    manifest = same_records(run, arguments.records)
    step = workdir.newest_checkpoint_step()
    if os.path.exists(arguments.output):
        if not directory.is_export(arguments.output):
            raise UsageError(f"{arguments.output} is there and no export; choose another --output")
        metrics = directory.read_metrics(arguments.output)
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
        directory.require_intact(arguments.output, metrics)
    else:
        import_tensorflow()
        from pipeline.export.exporter import Export, export
        from training.workers.failures import explained

        with explained(arguments.records):
            what = Export(
                workdir=workdir,
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
    from pipeline.benchmark.adb import Phone
    from pipeline.benchmark.measurement import benchmark

    if arguments.adb_serial and not arguments.adb:
        raise UsageError("--adb-serial needs --adb BINARY")
    phone = Phone(arguments.adb, arguments.adb_serial) if arguments.adb else None
    return benchmark(arguments.export, profile=arguments.profile, phone=phone)


def register(arguments: argparse.Namespace) -> Result:
    """`mobilenet register`: exports into the registry; a lost one is made anew from them."""
    from pipeline.publish import gate, registry

    uri = arguments.registry or registry.default_uri()
    versions = []
    for folder in arguments.exports:
        metrics = directory.read_metrics(folder)
        gate.require_measured(folder, metrics)
        versions.append({"export": folder, **registry.register(folder, metrics, uri)})
    return {"registry": uri, "versions": versions}


def publish(arguments: argparse.Namespace) -> Result:
    """`mobilenet publish`: the gate, the registry, the upload, the index."""
    from pipeline.publish import gate, registry
    from pipeline.publish.publication import publish

    metrics = directory.read_metrics(arguments.export)
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
    from pipeline.publish.download import fetch

    output = arguments.output or arguments.variant
    entry = fetch(arguments.variant, arguments.source, output)
    return {
        "export": output,
        **{key: entry[key] for key in ("variant", "sha256", "export_digest", "top1", "top5")},
    }


def compare(arguments: argparse.Namespace) -> Result:
    """`mobilenet compare`: figures on stdout, the tables on stderr."""
    from pipeline.publish import comparison, registry

    result = comparison.compare(
        arguments.a, arguments.b, arguments.registry or registry.default_uri()
    )
    print(comparison.tables(result), file=sys.stderr)
    return result


def report(arguments: argparse.Namespace) -> Result:
    """`mobilenet report`: one HTML page of an export or of a published folder."""
    from pipeline.publish.pages.html_report import report

    return report(arguments.folder, arguments.output, arguments.records)


def table(arguments: argparse.Namespace) -> None:
    """`mobilenet table`: Markdown on stdout."""
    from pipeline.publish.index import INDEX, read_index
    from pipeline.publish.pages import accuracy_table as tables

    if arguments.published:
        if not storage.exists(storage.join(arguments.published, INDEX)):
            raise UsageError(f"{arguments.published} publishes nothing; it has no {INDEX}")
        print(tables.ours(read_index(arguments.published)))
    print(tables.published(), end="")
