"""Plots as SVG, for files and for HTML pages; the same figures give the same bytes.

Their text is text, which a reader can select and a page can style.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import matplotlib
from markupsafe import Markup
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
INK, PAPER = "#1c2128", "#ffffff"  # a page has its own instead
STYLE: Any = {
    "svg.hashsalt": "mobilenet",
    "svg.fonttype": "none",
    "font.size": 11,
    "figure.titlesize": 12,
    "legend.fontsize": 10,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}
PANEL_INCHES = (5.0, 3.9)  # small, so that its text is still large enough on a phone

Draw = Callable[[Axes], None]


def accuracy_over_macs(entries: list[PublishedEntry]) -> bytes:
    """Draw top-1 over MACs as a file."""
    title = "Accuracy over MACs; a blob's area is its number of parameters"
    return _file(
        {title: functools.partial(draw_accuracy_over_macs, entries=entries)}, inches=(8.8, 5.2)
    )


def latency(entries: list[PublishedEntry]) -> bytes:
    """Draw V1 against V2 as a file: as published on a Pixel 1, and as measured here."""
    hosts = "; ".join(sorted({entry.host.cpu for entry in entries})) or "this machine"
    measured = literal(textwrap.fill(f"As measured on {hosts}", width=48))
    return _file(
        {
            "As published (no latency of V1 was)": draw_published_latency,
            measured: functools.partial(draw_measured_latency, entries=entries),
        },
        inches=(11.2, 5.2),
    )


def on_a_page(draw: Draw, description: str) -> Markup:
    """Draw one panel for use inside an HTML page, in the page's own colors.

    Args:
        draw: Function that fills the axes.
        description: What the plot shows, for those who do not see it.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=PANEL_INCHES, layout="constrained")
        _fill(figure.subplots(), draw)
        text = _svg(figure, transparent=True).decode()
    body = text[text.index("<svg") + len("<svg") :]
    body = body.replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    return Markup('<svg role="img" aria-label="{}"').format(description) + Markup(body)


def draw_accuracy_over_macs(axes: Axes, entries: list[PublishedEntry]) -> None:
    """Draw top-1 over MACs; a blob's area is its number of parameters, as in the original.

    Args:
        axes: The axes to draw on.
        entries: Published models. Those trained on other data than ImageNet are left out,
            because they are not comparable.
    """
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
        ("others", "MobileNetV2 by others", published_results.OTHERS_V2),
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
    )
    axes.set_xticks([10, 20, 50, 100, 200, 500], labels=["10", "20", "50", "100", "200", "500"])
    axes.minorticks_off()
    _legend(axes)


def draw_published_latency(axes: Axes) -> None:
    """Draw top-1 over the published latency; none was published for V1, V3 is there to compare."""
    for family in reversed(FAMILIES.values()):
        rows = [row for row in map(accuracy_table.original, family.published_rows) if row]
        timed = [(row.pixel1_ms, row.top1) for row in rows if row.pixel1_ms]
        if timed:
            _points(axes, family.title, family.title, timed)
    _points(
        axes,
        "MobileNetV3",
        "MobileNetV3",
        [(peer.pixel1_ms, peer.top1) for peer in published_results.MOBILENET_V3 if peer.pixel1_ms],
    )
    axes.set(
        xscale="log",
        xlabel="latency, large core of a Pixel 1 (ms)",
        ylabel="ImageNet top-1 (%)",
    )
    axes.set_xticks([5, 10, 20, 50, 100], labels=["5", "10", "20", "50", "100"])
    axes.minorticks_off()
    _legend(axes)


def draw_measured_latency(axes: Axes, entries: list[PublishedEntry]) -> None:
    """Draw the measured latency: over MACs, or of every format if there is one network only."""
    timed = [entry for entry in entries if entry.latency_ms]
    if len(timed) > 1:
        _latency_over_macs(axes, timed)
    elif timed:
        _latency_of_formats(axes, timed[0])
    else:
        axes.text(0.5, 0.5, "nothing measured yet", ha="center", transform=axes.transAxes)


def draw_curves(axes: Axes, history: History, names: Iterable[str], ylabel: str) -> None:
    """Draw scalars of a training run over its steps."""
    for color, name in zip(COLORS.values(), names, strict=False):
        if history.get(name):
            steps, values = zip(*((step, value) for step, value, _ in history[name]), strict=True)
            marker = "o" if len(steps) < 20 else ""
            axes.plot(steps, values, color=color, marker=marker, markersize=3, label=name)
    axes.set(xlabel="step", ylabel=ylabel)
    _legend(axes)


def _latency_over_macs(axes: Axes, entries: list[PublishedEntry]) -> None:
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
    axes.margins(0.1)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="multiply-accumulates per image (millions)",
        ylabel="latency, LiteRT, one thread (ms)",
    )
    _legend(axes)


def _latency_of_formats(axes: Axes, entry: PublishedEntry) -> None:
    names = [literal(name) for name in entry.latency_ms]
    color = COLORS.get(entry.variant.model_family.title, OTHER_COLOR)
    bars = axes.barh(names, list(entry.latency_ms.values()), color=color)
    axes.bar_label(bars, fmt=accuracy_table.milliseconds, padding=4)
    axes.invert_yaxis()  # the first format is on top
    axes.margins(x=0.16)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"latency of {literal(entry.name)},\nLiteRT, one thread (ms)")


def _blobs(axes: Axes, name: str, label: str, blobs: list[tuple[float, float, float]]) -> None:
    macs, top1, parameters = zip(*blobs, strict=True)
    axes.scatter(
        macs,
        top1,
        s=[AREA_PER_MILLION * millions for millions in parameters],
        color=COLORS.get(name, OTHER_COLOR),
        alpha=0.45,
        edgecolors=PAPER,
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
        markerfacecolor=COLORS.get(name, OTHER_COLOR) if filled else "none",
        alpha=0.8,
        label=label,
    )


def _legend(axes: Axes) -> None:
    """Put the legend above the axes, where it covers no point."""
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, columnspacing=1.2, handlelength=1.4
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([80.0])


def _file(draws: Mapping[str, Draw], inches: tuple[float, float]) -> bytes:
    """Draw panels side by side, each below its title."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        panels = figure.subfigures(1, len(draws), squeeze=False)[0]
        for panel, (title, draw) in zip(panels, draws.items(), strict=True):
            panel.suptitle(title)
            _fill(panel.subplots(), draw)
        return _svg(figure, transparent=False)


def _fill(axes: Axes, draw: Draw) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)


def _svg(figure: Figure, *, transparent: bool) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=transparent)
    return drawn.getvalue()
