"""`mobilenet benchmark`: latency, memory and size of an export, here and on a phone."""

from __future__ import annotations

import argparse

from pipeline.cli.command import Command, Result


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("export", metavar="EXPORT", help="export directory")
    parser.add_argument(
        "--profile", action="store_true", help="also time every operator on its own"
    )
    parser.add_argument(
        "--adb",
        metavar="BINARY",
        help="also measure on the phone that adb finds, with this benchmark_model binary",
    )
    parser.add_argument("--adb-serial", help="serial number of the phone, if there are several")


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.benchmark.adb import Phone
    from pipeline.benchmark.measurement import benchmark
    from pipeline.export import directory
    from preprocessing.errors import UsageError

    if arguments.adb_serial and not arguments.adb:
        raise UsageError("--adb-serial needs --adb BINARY")
    phone = Phone(arguments.adb, arguments.adb_serial) if arguments.adb else None
    with directory.at_hand(arguments.export) as export:
        result = benchmark(export, profile=arguments.profile, phone=phone)
    return {**result.to_json(), "export": arguments.export}


COMMAND = Command(
    name="benchmark",
    summary="measure latency, memory and size of an export's TF-Lite files",
    add_flags=_add_flags,
    run=_run,
)
