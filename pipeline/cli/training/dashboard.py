"""`mobilenet dashboard`: TensorBoard on a run or on many, until interrupted."""

from __future__ import annotations

import argparse
import logging
import sys

from pipeline.cli import flags
from pipeline.cli.command import Command

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="WORKDIR", help="folder of a run, or of many runs")
    parser.add_argument("--port", type=flags.positive, default=6006, help="port of the page [6006]")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on; others can see it [127.0.0.1]"
    )
    parser.add_argument(
        "--wait", action="store_true", help="start even if there is no run to show yet"
    )


def _run(arguments: argparse.Namespace) -> None:
    from pipeline.local.event_files import EventFiles
    from preprocessing import storage
    from preprocessing.errors import UsageError

    with storage.temporary_folder("dashboard") as copy:
        events = EventFiles(arguments.folder, copy)
        runs = events.refresh()
        if not runs and not arguments.wait:
            raise UsageError(
                f"{arguments.folder} has no events yet; start `mobilenet train` first, or pass "
                "--wait"
            )
        flags.require_free_port(arguments.port)
        logger.info("dashboard: showing %s of %s", ", ".join(runs) or "no run", arguments.folder)
        events.keep_fresh()
        sys.exit(_serve(events.logdir, arguments.host, arguments.port))


def _serve(logdir: str, host: str, port: int) -> int:
    """Run TensorBoard in this process, so that it never outlives it."""
    from pipeline.local.quiet import import_tensorflow

    import_tensorflow()
    from tensorboard import default, program

    logging.getLogger("tensorboard").addFilter(_is_no_lost_request)
    tensorboard = program.TensorBoard(plugins=default.get_plugins())
    tensorboard.configure(
        argv=[
            *("tensorboard", f"--logdir={logdir}", f"--host={host}", f"--port={port}"),
            "--reload_interval=15",
        ]
    )
    code: int = tensorboard.main()
    return code


def _is_no_lost_request(record: logging.LogRecord) -> bool:
    """Return whether a message is another than the traceback of a request whose end was cut off.

    A browser that leaves, or the end of this command, does that.
    """
    return record.msg != "HTTP serving error"


COMMAND = Command(
    name="dashboard",
    summary="show TensorBoard on a run or on many, side by side",
    add_flags=_add_flags,
    run=_run,
)
