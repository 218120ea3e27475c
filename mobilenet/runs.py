"""Training runs, as the command makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from training.config.recipes import DEFAULT_RECIPE

if TYPE_CHECKING:
    from training.workdir.progress import Progress

Value = bool | int | float | str
Path = str | os.PathLike[str]


def train(
    variant: str,
    *,
    records: Path,
    workdir: Path,
    recipe: str = DEFAULT_RECIPE,
    epochs: float | None = None,
    settings: Mapping[str, Value] | None = None,
    initial_checkpoint: Path | None = None,
    fork: Path | None = None,
    workers: int = 1,
) -> Progress:
    """Train as `mobilenet train` does, in processes of its own; called again, it continues.

    The messages of the run appear on `sys.stderr`, which a notebook shows below the cell. To
    interrupt the call stops the run, which saves a checkpoint first.

    Args:
        variant: Name of the network.
        records: Folder that `mobilenet prepare` wrote.
        workdir: Folder of the run.
        recipe: Name of the recipe.
        epochs: Passes over the training images; None trains as long as the recipe says.
        settings: Changes of the recipe, for example `{"optimizer.momentum": 0.8}`.
        initial_checkpoint: Weights to start from, as for `mobilenet train`.
        fork: Folder of another run, from whose newest checkpoint this one goes on.
        workers: Number of processes.

    Returns:
        The progress of the finished run, with its accuracy on the validation images.

    Raises:
        UsageError: An argument is wrong; its message is the last line of the run.
        PermanentError: The run failed for good.
        RetryError: The run was interrupted; call again to continue.
    """
    from training.workdir.workdir import Workdir

    command = [
        *(sys.executable, "-m", "pipeline", "train"),
        *(f"--variant={variant}", f"--recipe={recipe}", f"--workers={workers}"),
        *(f"--records={os.fspath(records)}", f"--workdir={os.fspath(workdir)}"),
        *([f"--epochs={epochs}"] if epochs is not None else []),
        *(f"--set={name}={_text(value)}" for name, value in (settings or {}).items()),
    ]
    if initial_checkpoint is not None:
        command.append(f"--initial-checkpoint={os.fspath(initial_checkpoint)}")
    if fork is not None:
        command.append(f"--fork={os.fspath(fork)}")
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        try:
            for last in process.stderr:
                sys.stderr.write(last)
        except KeyboardInterrupt:
            process.terminate()
            for last in process.stderr:
                sys.stderr.write(last)
    _raise_for(process.returncode, last.strip())
    return Workdir(os.fspath(workdir)).read_progress()


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _raise_for(code: int, message: str) -> None:
    """Raise the error that an exit code stands for."""
    from preprocessing.errors import ERRORS, PermanentError, RetryError

    if not code:
        return
    message = message.removeprefix("mobilenet: ") or f"the training ended with {code}"
    if code < 0 or code >= 128:
        raise RetryError(message)
    kinds = {kind.exit_code: kind for kind in ERRORS}
    raise kinds.get(code, PermanentError)(message)
