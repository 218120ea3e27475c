"""Overviews of runs: what each run in a folder is, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from preprocessing import storage
from preprocessing.errors import PermanentError
from preprocessing.storage import contracts
from preprocessing.storage.contracts import Json
from training.workdir import attempts, run_record
from training.workdir.evaluations import best_of
from training.workdir.lock import is_held
from training.workdir.workdir import Workdir

MAX_DEPTH = 4  # folders below the one that is searched


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """One run in a line.

    Attributes:
        run: Path of its folder.
        state: `complete`, `imported`, `training`, `stopped`, `failed: REASON` or, for a folder
            that cannot be read, `unreadable: REASON`.
        variant: Name of the network; None if the folder cannot be read.
        recipe: Name of the recipe; None if the folder cannot be read.
        step: Updates made.
        num_steps: Updates of the whole run.
        best_top1: Highest top-1 on the validation images, in [0, 1]; None before the first.
        best_step: Step of that evaluation.
    """

    run: str
    state: str
    variant: str | None = None
    recipe: str | None = None
    step: int | None = None
    num_steps: int | None = None
    best_top1: float | None = None
    best_step: int | None = None

    def to_json(self) -> Json:
        """Return the fields by name, without those that are None."""
        return contracts.to_json(self)


def overviews(folder: str) -> list[Overview]:
    """Return an overview of every run in `folder`, which may be a run itself.

    Runs lie at most `MAX_DEPTH` folders below; one that cannot be read is told, too.
    """
    return [_overview(Workdir(path)) for path in _runs_in(folder, MAX_DEPTH)]


def _runs_in(folder: str, depth: int) -> Iterator[str]:
    entries = storage.list_entries(folder)
    if any(entry.name == run_record.FILE and not entry.is_folder for entry in entries):
        yield folder
        return
    for entry in entries:
        if entry.is_folder and depth and not entry.name.startswith("."):
            yield from _runs_in(storage.join(folder, entry.name), depth - 1)


def _overview(workdir: Workdir) -> Overview:
    try:
        run, progress = workdir.read_run(), workdir.read_progress()
        evaluations = workdir.read_evaluations(workdir.evaluated_steps())
    except PermanentError as error:
        return Overview(run=workdir.path, state=f"unreadable: {error}")
    best = best_of(evaluations.values())
    return Overview(
        run=workdir.path,
        state=_state(workdir, progress.complete, progress.imported is not None),
        variant=run.config.variant.name,
        recipe=run.config.recipe,
        step=progress.step,
        num_steps=progress.num_steps or run.num_steps,
        best_top1=best.top1 if best else None,
        best_step=best.step if best else None,
    )


def _state(workdir: Workdir, complete: bool, imported: bool) -> str:
    if complete:
        return "imported" if imported else "complete"
    if is_held(workdir):
        return "training"
    failure = attempts.last_failure(workdir)
    return f"failed: {failure}" if failure else "stopped"
