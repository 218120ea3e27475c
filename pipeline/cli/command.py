"""The type of a command: its name, its line in the help, its flags and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]  # printed as one JSON line on stdout


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command of `mobilenet`.

    Attributes:
        name: The word on the command line.
        summary: One line for the help.
        add_flags: Adds the flags to the command's parser.
        run: Checks what exists, does what is missing, and returns the result; None prints
            nothing. It imports TensorFlow, Beam, MLflow and Kubernetes only when it needs them.
        takes_beam_flags: Whether what follows `--` goes to Beam.
    """

    name: str
    summary: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Result | None]
    takes_beam_flags: bool = False
