"""The two plots of the original page, as SVG; the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from pipeline.export.formats.registry import latency_columns
from pipeline.export.history import History
from pipeline.publish.pages import accuracy_table, published_results
from pipeline.publish.published_index import PublishedEntry
from training.models.families import FAMILIES
from training.monitoring.plot_text import literal

COLORS = {
    "ours": "#d62728",
    "MobileNetV2": "#1f77b4",
    "MobileNetV1": "#8a8d91",
    "MobileNetV3": "#2ca02c",
    "others": "#9467bd",
}
OTHER_COLOR = "#8c564b"  # color of families that have none above
AREA_PER_MILLION = 60.0  # square points of a blob per million parameters


def accuracy_over_macs(entries: list[PublishedEntry]) -> bytes:
    """Draw top-1 over MACs; a blob's area is its number of parameters, as in the original.

    Args:
        entries: Published models. Those trained on other data than ImageNet are left out,
            because they are not comparable.
    """
    figure, axes = _figure()
    for family in reversed(FAMILIES.values()):
        rows = [row for row in map(accuracy_table.original, family.published_rows) if row]
        if rows:
            _blobs(
                axes,
                family.title,
                f"{family.title}, published",
                [(row.macs_millions, row.top1, row.parameters_millions) for row in rows],
            )
    for name, label, group in (
        ("MobileNetV3", "MobileNetV3, published", published_results.MOBILENET_V3),
        ("others", "MobileNetV2 trained by others", published_results.OTHERS_V2),
    ):
        _blobs(
            axes,
            name,
            label,
            [(peer.macs_millions, peer.top1, peer.parameters_millions) for peer in group],
        )
    ours = [entry for entry in entries if accuracy_table.is_comparable(entry)]
    if ours:
        _blobs(
            axes,
            "ours",
            "ours",
            [
                (entry.macs / 1e6, 100 * entry.checkpoint_top1, entry.parameters / 1e6)
                for entry in ours
            ],
        )
    axes.set(
        xscale="log",
        xlabel="multiply-accumulates per image (millions)",
        ylabel="ImageNet top-1 (%)",
        title="Accuracy over MACs; a blob's area is its number of parameters",
    )
    axes.set_xticks([10, 20, 50, 100, 200, 500], labels=["10", "20", "50", "100", "200", "500"])
    axes.minorticks_off()
    _legend(axes)
    return _svg(figure)


def latency(entries: list[PublishedEntry]) -> bytes:
    """Draw V1 against V2: as published on a Pixel 1, and as measured here.

    The left plot shows top-1 over the published latency; none was published for V1, and V3 is
    there to compare. The right one shows the measured latency over MACs, whatever the models
    were trained on.
    """
    figure, axes = _figure(columns=2)
    published, measured = axes
    for family in reversed(FAMILIES.values()):
        rows = [row for row in map(accuracy_table.original, family.published_rows) if row]
        timed = [(row.pixel1_ms, row.top1) for row in rows if row.pixel1_ms]
        if timed:
            _points(published, family.title, family.title, timed)
    _points(
        published,
        "MobileNetV3",
        "MobileNetV3",
        [(peer.pixel1_ms, peer.top1) for peer in published_results.MOBILENET_V3 if peer.pixel1_ms],
    )
    published.set(
        xscale="log",
        xlabel="latency, large core of a Pixel 1 (ms)",
        ylabel="ImageNet top-1 (%)",
        title="As published (no latency of V1 was)",
    )
    published.set_xticks([5, 10, 20, 50, 100], labels=["5", "10", "20", "50", "100"])
    published.minorticks_off()
    _legend(published)
    _measured(measured, entries)
    return _svg(figure)


def curves(history: History, names: Iterable[str], ylabel: str) -> bytes:
    """Draw scalars of a training run over its steps."""
    figure, axes = _figure(size=(6.2, 3.4))
    for color, name in zip(COLORS.values(), names, strict=False):
        if history.get(name):
            steps, values = zip(*((step, value) for step, value, _ in history[name]), strict=True)
            marker = "o" if len(steps) < 20 else ""
            axes.plot(steps, values, color=color, marker=marker, markersize=3, label=name)
    axes.set(xlabel="step", ylabel=ylabel)
    _legend(axes)
    return _svg(figure)


def _measured(axes: Axes, entries: list[PublishedEntry]) -> None:
    hosts = sorted({entry.host.cpu for entry in entries})
    for family in reversed(FAMILIES.values()):
        ours = [entry for entry in entries if entry.variant.model_family is family]
        for position, column in enumerate(latency_columns()):
            points = [
                (entry.macs / 1e6, entry.latency_ms[column.name])
                for entry in ours
                if column.name in entry.latency_ms
            ]
            if points:
                label = f"{family.title} {column.label}"
                _points(axes, family.title, label, points, filled=position == 0)
    if entries:
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.margins(0.1)
        _legend(axes)
    else:
        axes.text(0.5, 0.5, "nothing measured yet", ha="center", transform=axes.transAxes)
    axes.set(
        xlabel="multiply-accumulates per image (millions)",
        ylabel="latency, LiteRT, one thread (ms)",
        title=f"As measured on {literal('; '.join(hosts)) or 'this machine'}",
    )


def _figure(columns: int = 1, size: tuple[float, float] | None = None) -> tuple[Figure, Any]:
    inches = size or (8.8 if columns == 1 else 5.6 * columns, 5.2)
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots(1, columns)
    for panel in [axes] if columns == 1 else axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _blobs(axes: Axes, name: str, label: str, blobs: list[tuple[float, float, float]]) -> None:
    macs, top1, parameters = zip(*blobs, strict=True)
    axes.scatter(
        macs,
        top1,
        s=[AREA_PER_MILLION * millions for millions in parameters],
        color=COLORS.get(name, OTHER_COLOR),
        alpha=0.45,
        edgecolors="white",
        linewidths=0.8,
        label=label,
    )


def _points(
    axes: Axes,
    name: str,
    label: str,
    points: list[tuple[float, float]],
    *,
    filled: bool = True,
) -> None:
    across, up = zip(*sorted(points), strict=True)
    axes.plot(
        across,
        up,
        linestyle="",
        marker="o",
        markersize=7,
        color=COLORS.get(name, OTHER_COLOR),
        markerfacecolor=COLORS.get(name, OTHER_COLOR) if filled else "white",
        alpha=0.8,
        label=label,
    )


def _legend(axes: Axes) -> None:
    legend = axes.legend(frameon=False, loc="best")
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([80.0])


def _svg(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "mobilenet"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
