"""The console script `mobilenet`: results are one JSON line on stdout, all else is on stderr."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import textwrap
from collections.abc import Sequence

from pipeline.cli.command import Command
from pipeline.cli.log_setup import LOG_FORMATS, configure_logging
from pipeline.cli.registry import COMMANDS
from pipeline.local import interruption, processes
from preprocessing import extensions
from preprocessing.errors import (
    ERRORS,
    PermanentError,
    RetryError,
    UsageError,
    describe_os_error,
    one_line,
)
from training.workers.watchdog import StoppedError

logger = logging.getLogger(__name__)

EXIT_CODES = "exit codes:\n" + textwrap.fill(
    "; ".join(["0 done", *(f"{error.exit_code} {error.meaning}" for error in ERRORS)]),
    width=94,
    initial_indent="  ",
    subsequent_indent="  ",
)


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, without the usage that argparse prints first."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; it imports nothing heavy."""
    root = _Parser(
        prog="mobilenet",
        description="From the ImageNet archives to published MobileNetV2 checkpoints.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            prog=f"mobilenet {command.name}",
        )
        subparser.add_argument(
            "--log-format",
            choices=LOG_FORMATS,
            default="human",
            help="form of the messages [human]",
        )
        command.add_flags(subparser)
    return root


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; what follows `--` is for Beam."""
    own, beam = list(argv), []
    if "--" in own:
        position = own.index("--")
        own, beam = own[:position], own[position + 1 :]
    root = parser()
    arguments = root.parse_args(own)
    if beam and not command_named(arguments.command).takes_beam_flags:
        root.error(f"flags after -- go to Beam; {arguments.command} does not use it")
    arguments.beam_arguments = beam
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    processes.die_with_parent()
    if argv is None:  # a process of its own: what it starts, by whatever library, inherits this
        os.environ.update(processes.SAFE_PATH)
    try:
        extensions.load()
    except UsageError as error:
        configure_logging()
        return _fail(str(error), error.exit_code)
    arguments = parse(sys.argv[1:] if argv is None else argv)
    configure_logging(arguments.log_format)
    code = _run(command_named(arguments.command), arguments)
    if arguments.command == "train" and "TF_CONFIG" in os.environ:
        # A worker that has printed its result is done. A regular exit could wait for the others,
        # because TensorFlow does.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def command_named(name: str) -> Command:
    """Return the command of a name that the parser accepts."""
    return next(command for command in COMMANDS if command.name == name)


def _run(command: Command, arguments: argparse.Namespace) -> int:
    try:
        result = command.run(arguments)
    except (PermanentError, RetryError) as error:
        is_told = isinstance(error, StoppedError) and processes.is_child()
        return _fail("" if is_told else str(error), error.exit_code)
    except OSError as error:
        described = describe_os_error(error)
        return _fail(str(described), described.exit_code)
    except KeyboardInterrupt:
        return _fail(interruption.INTERRUPTED, 143)
    if result:
        print(json.dumps(result), flush=True)
    return 0


def _fail(message: str, code: int) -> int:
    if message and not interruption.speak_last(line := f"mobilenet: {one_line(message)}"):
        logger.error("%s", line)
    return code
