"""`mobilenet data-service`: a dispatcher or a worker of a tf.data service, until killed."""

from __future__ import annotations

import argparse

from pipeline.cli import flags
from pipeline.cli.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", choices=("dispatcher", "worker"), required=True)
    parser.add_argument("--port", type=flags.positive, required=True, help="port to listen on")
    parser.add_argument("--work-dir", help="folder that the dispatcher remembers its jobs in")
    parser.add_argument("--dispatcher", metavar="grpc://HOST:PORT")
    parser.add_argument(
        "--host", default="localhost", help="the worker's name for trainers [localhost]"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.local.quiet import import_tensorflow
    from preprocessing.errors import UsageError

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


COMMAND = Command(
    name="data-service",
    summary="serve batches to trainers from this machine (tf.data)",
    add_flags=_add_flags,
    run=_run,
)
