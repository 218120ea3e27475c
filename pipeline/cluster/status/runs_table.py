"""`mobilenet jobs`: one row per run."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pipeline.cluster import record
from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.backends import registry
from pipeline.cluster.record import Record, Unreadable
from pipeline.cluster.status import observe, training_progress
from preprocessing.errors import RetryError

FOLLOW_SECONDS = 5.0
WIDE = 160  # characters in a line when the output is not a terminal
COLUMNS = (
    "run",
    "layout",
    "stage",
    "state",
    "step",
    "loss",
    "images_per_second",
    "eta",
    "restarts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: one run.

    Attributes:
        restarts: Number of attempts after the first, and of pods that the operator replaced.
    """

    run: str
    variant: str
    layout: str
    stage: str
    state: str
    step: str
    loss: str
    images_per_second: str
    eta: str
    restarts: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-able values."""
        return dataclasses.asdict(self)


def rows(gateway: Gateway) -> list[Row]:
    """Return one row per run of the namespace."""
    return [
        _unreadable(current) if isinstance(current, Unreadable) else _row(gateway, current)
        for current in record.read_all(gateway)
    ]


def _unreadable(current: Unreadable) -> Row:
    figures = dict.fromkeys(
        ("variant", "layout", "stage", "step", "loss", "images_per_second", "eta"), ""
    )
    return Row(run=current.name, state="unreadable", restarts=0, reason=current.reason, **figures)


def _row(gateway: Gateway, current: Record) -> Row:
    state, stage = current.state, current.stage or current.spec.stages[-1]
    kind = registry.for_stage(current.spec.backend, stage).kind
    attempts, _ = observe.attempts(gateway, current.name, stage, kind)
    newest = attempts[-1] if attempts else None
    active = newest is not None and not current.finished
    training = newest if newest and active and stage == "train" else None
    progress = training_progress.of(gateway, training) if training else None
    phase = newest.phase if newest else "pending"
    reason = state.reason
    if active and not state.stopped:
        reason = observe.reason(gateway, newest, state.reason)
    return Row(
        run=current.name,
        variant=current.spec.variant.name,
        layout=current.spec.layout.name,
        stage=stage,
        state=state.outcome or ("stopped" if state.stopped else phase),
        step=f"{progress.step}/{progress.num_steps}" if progress else "",
        loss=f"{progress.loss:.4f}" if progress else "",
        images_per_second=f"{progress.images_per_second:.0f}" if progress else "",
        eta=_duration(progress.eta_seconds) if progress else "",
        restarts=_restarts(gateway, attempts),
        reason=reason or "",
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else ""


def _restarts(gateway: Gateway, attempts: list[observe.Attempt]) -> int:
    """Count further attempts, and the workers that the operator replaced in the newest one."""
    if not attempts:
        return 0
    newest = attempts[-1]
    event_reason = registry.of_kind(newest.kind).replacement_event
    replaced = [
        event.get("count") or 1
        for event in gateway.events(newest.name)
        if event_reason and event.get("reason") == event_reason
    ]
    return newest.number - 1 + sum(replaced)


def show(table_rows: list[Row]) -> None:
    """Print the table."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(_table(table_rows))


def follow(gateway: Gateway) -> None:
    """Keep the table current until interrupted."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            try:
                live.update(_table(rows(gateway)), refresh=True)
            except RetryError as error:
                live.console.print(f"{error}; trying again")
            time.sleep(FOLLOW_SECONDS)


def _table(table_rows: list[Row]) -> Any:
    """Return the figures in a grid, and below it the obstacles of each run."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name.replace("_per_second", "/s"), no_wrap=name != "run", overflow="fold")
    for row in table_rows:
        table.add_row(*(str(getattr(row, name)) for name in COLUMNS))
    return Group(table, *(Text(f"{row.run}: {row.reason}") for row in table_rows if row.reason))
