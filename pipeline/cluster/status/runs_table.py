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
from pipeline.cluster.record import Record
from pipeline.cluster.status import observe, training_progress
from preprocessing.errors import RetryError

FOLLOW_SECONDS = 5.0
WIDE = 160  # characters, where no terminal says how wide it is
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
    """A run as the table shows it."""

    run: str
    variant: str
    layout: str
    stage: str
    state: str
    step: str
    loss: str
    images_per_second: str
    eta: str
    restarts: int  # attempts beyond the first, and pods that the operator replaced
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def rows(gateway: Gateway) -> list[Row]:
    """All runs of the namespace."""
    return [_row(gateway, each) for each in record.read_all(gateway)]


def _row(gateway: Gateway, current: Record) -> Row:
    state, stage = current.state, current.stage or current.spec.stages[-1]
    kind = registry.for_stage(current.spec.backend, stage).kind
    found, _ = observe.attempts(gateway, current.name, stage, kind)
    newest = found[-1] if found else None
    active = newest is not None and not current.finished
    said = training_progress.of(gateway, newest) if newest and active and stage == "train" else None
    phase = newest.phase if newest else "pending"
    reason = state.reason
    if newest and active and not newest.ended and not state.stopped:
        reason = observe.obstacle(gateway, newest)
    return Row(
        run=current.name,
        variant=current.spec.variant,
        layout=current.spec.layout.name,
        stage=stage,
        state=state.outcome or ("stopped" if state.stopped else phase),
        step=f"{said.step}/{said.num_steps}" if said else "",
        loss=f"{said.loss:.4f}" if said else "",
        images_per_second=f"{said.images_per_second:.0f}" if said else "",
        eta=_duration(said.eta_seconds) if said else "",
        restarts=_restarts(gateway, found),
        reason=reason,
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else ""


def _restarts(gateway: Gateway, found: list[observe.Attempt]) -> int:
    """New attempts, and workers that the operator replaced in the newest, as its events say."""
    if not found:
        return 0
    replaced = [
        each.get("count") or 1
        for each in gateway.events(found[-1].name)
        if each.get("reason") == "ExitedWithCode"
    ]
    return found[-1].number - 1 + sum(replaced)


def show(found: list[Row]) -> None:
    """Print the table."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(_table(found))


def follow(gateway: Gateway) -> None:
    """Keep the table up to date until interrupted."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            try:
                live.update(_table(rows(gateway)), refresh=True)
            except RetryError as error:
                live.console.print(f"{error}; trying again")
            time.sleep(FOLLOW_SECONDS)


def _table(found: list[Row]) -> Any:
    """Figures in a grid, and below it what hinders whom."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name.replace("_per_second", "/s"), no_wrap=name != "run", overflow="fold")
    for row in found:
        table.add_row(*(str(getattr(row, name)) for name in COLUMNS))
    return Group(table, *(Text(f"{row.run}: {row.reason}") for row in found if row.reason))
