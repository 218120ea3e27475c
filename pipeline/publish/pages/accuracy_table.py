"""Tables of accuracy: the published ones, and this project's in their form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.export.formats.registry import accuracy_columns, latency_columns
from pipeline.publish.published_index import PublishedEntry
from preprocessing.records.imagenet import NUM_CLASSES
from training.models.architecture import architecture
from training.models.families import FAMILIES
from training.models.model_family import ModelFamily
from training.models.variants import Variant

IMAGENET_OUTPUTS = NUM_CLASSES + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A row of the original authors' tables; accuracy in percent."""

    macs_millions: int
    parameters_millions: float
    top1: float
    top5: float
    pixel1_ms: float | None = None  # V1 has no latency column


def original(variant: str) -> Original | None:
    """Return what the original authors published of `variant`; None if they published nothing."""
    for family in FAMILIES.values():
        row = family.published_rows.get(variant)
        if row:
            layout = architecture(Variant.parse(variant), IMAGENET_OUTPUTS)
            return Original(
                macs_millions=row.macs_millions or layout.macs // 1_000_000,
                parameters_millions=row.parameters_millions or layout.parameters // 10_000 / 100,
                top1=row.top1,
                top5=row.top5,
                pixel1_ms=row.pixel1_ms,
            )
    return None


def is_comparable(entry: PublishedEntry) -> bool:
    """Return whether an entry answers ImageNet's question: which of 1000 classes."""
    return entry.classes == NUM_CLASSES


NOTHING = "–"  # noqa: RUF001
_COMPUTED_HEADER = (
    "| Classification Checkpoint | MACs (M) | Parameters (M) | Top 1 Accuracy | Top 5 Accuracy "
    "| Mobile CPU (ms) Pixel 1 |\n"
    "|---|---|---|---|---|---|\n"
)
_PRINTED_HEADER = (
    "| Classification Checkpoint | MACs (M) published | MACs computed | Parameters (M) "
    "| Top 1 Accuracy | Top 5 Accuracy |\n"
    "|---|---|---|---|---|---|\n"
)


def macs_millions(macs: int) -> str:
    """Return whole millions, truncated: the only rule that gives all 22 published figures."""
    return str(macs // 1_000_000)


def parameters_millions(parameters: int) -> str:
    """Return millions with two decimals, truncated as published."""
    return f"{parameters // 10_000 / 100:.2f}"


def percent(fraction: float | None) -> str:
    """Return `71.8`, or a dash where nothing was measured."""
    return NOTHING if fraction is None else f"{100 * fraction:.1f}"


def milliseconds(value: float | None) -> str:
    """Return `73.80`, or a dash where nothing was measured."""
    return NOTHING if value is None else f"{value:.2f}"


def markdown_row(*cells: str) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |\n"


# Marks of Markdown, formulas and people; `_` inside a word is none,
# and marks of lists and rules are some at the beginning only.
_MARKS = re.compile(r"[\\`*\[\]<>|~#!&$@]|(?<![^\W_])_|_(?![^\W_])|^[-+=](?=[\s=-]|$)")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")


def escaped(text: str) -> str:
    """Return a stranger's text, such as the name of a class, as plain text inside a line."""
    return _NUMBERED.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", " ".join(text.split())))


def code(text: str) -> str:
    """Return a stranger's text as code inside a line, outside of tables."""
    line = " ".join(text.split()) or "?"
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{line}{space}{fence}"


def markdown_header(*columns: str) -> str:
    """Return the head of a Markdown table."""
    return markdown_row(*columns) + f"|{'---|' * len(columns)}\n"


def ours(entries: list[PublishedEntry]) -> str:
    """Return the table of this project's models in Markdown."""
    header = markdown_header(
        "Classification Checkpoint",
        "MACs (M)",
        "Parameters (M)",
        "Top 1 Accuracy",
        "Top 5 Accuracy",
        *(f"{column.label} Top 1" for column in accuracy_columns()),
        *_latency_titles(),
    )
    return header + "".join(map(_row, entries))


def _row(entry: PublishedEntry) -> str:
    return markdown_row(
        *_size_cells(entry),
        percent(entry.checkpoint_top1),
        percent(entry.checkpoint_top5),
        *(percent(entry.top1.get(column.name)) for column in accuracy_columns()),
        *_latency_cells(entry),
    )


def beside_original(entries: list[PublishedEntry]) -> str:
    """Return a Markdown table of the entries' figures, the original's, and their difference.

    A dataset other than ImageNet has no figure of the original, because the same number would
    not mean the same.
    """
    header = markdown_row(
        "Classification Checkpoint",
        "MACs (M)",
        "Parameters (M)",
        *("Top 1 Accuracy", "original", "difference"),
        *("Top 5 Accuracy", "original", "difference"),
        *(
            title
            for column in accuracy_columns()
            for title in (f"{column.label} Top 1", f"{column.label} difference")
        ),
        *_latency_titles(),
        "original, Pixel 1 (ms)",
    )
    columns = header.count("|") - 1
    return header + markdown_row(*["---"] * columns) + "".join(map(_row_beside_original, entries))


def _row_beside_original(entry: PublishedEntry) -> str:
    theirs = original(entry.name) if is_comparable(entry) else None
    cells = _size_cells(entry)
    cells += _beside(entry.checkpoint_top1, theirs.top1 if theirs else None)
    cells += _beside(entry.checkpoint_top5, theirs.top5 if theirs else None)
    for column in accuracy_columns():
        top1 = entry.top1.get(column.name)
        lost = NOTHING if top1 is None else _points(100 * (top1 - entry.checkpoint_top1))
        cells += [percent(top1), lost]
    cells += _latency_cells(entry)
    pixel1_ms = theirs.pixel1_ms if theirs else None
    return markdown_row(*cells, NOTHING if pixel1_ms is None else f"{pixel1_ms}")


def _size_cells(entry: PublishedEntry) -> list[str]:
    return [
        f"[{entry.name}]({entry.file})",
        macs_millions(entry.macs),
        parameters_millions(entry.parameters),
    ]


def _latency_titles() -> list[str]:
    return [f"{column.label} CPU (ms)" for column in latency_columns()]


def _latency_cells(entry: PublishedEntry) -> list[str]:
    return [milliseconds(entry.latency_ms.get(column.name)) for column in latency_columns()]


def _beside(fraction: float, theirs: float | None) -> list[str]:
    if theirs is None:
        return [percent(fraction), NOTHING, NOTHING]
    # Both as they are printed, so that a reader's own subtraction agrees.
    return [percent(fraction), f"{theirs}", _points(round(100 * fraction, 1) - theirs)]


def _points(difference: float) -> str:
    return f"{difference:+.1f}"


def published() -> str:
    """Return the published tables in Markdown, one per family that has published rows."""
    families = [family for family in FAMILIES.values() if family.published]
    return "\n".join(
        _with_printed_macs(family) if _prints_macs(family) else _with_computed_macs(family)
        for family in families
    )


def _prints_macs(family: ModelFamily) -> bool:
    return any(row.macs_millions is not None for row in family.published)


def _with_computed_macs(family: ModelFamily) -> str:
    """Return a table whose MACs and parameters are computed here, as in V2's table."""
    lines = []
    for name, row in family.published_rows.items():
        layout = architecture(Variant.parse(name), IMAGENET_OUTPUTS)
        lines.append(
            f"| {name} | {macs_millions(layout.macs)} | {parameters_millions(layout.parameters)} "
            f"| {row.top1} | {row.top5} | {NOTHING if row.pixel1_ms is None else row.pixel1_ms} |\n"
        )
    return _COMPUTED_HEADER + "".join(lines)


def _with_printed_macs(family: ModelFamily) -> str:
    """Return a table with the printed MACs, which for V1 are not always what its code computes."""
    lines = []
    for name, row in family.published_rows.items():
        computed = architecture(Variant.parse(name), IMAGENET_OUTPUTS).macs
        is_same = round(computed / 1e6) == row.macs_millions
        remark = "" if is_same else " (not what the code computes)"
        lines.append(
            f"| {name} | {row.macs_millions}{remark} | {computed} | {row.parameters_millions} "
            f"| {row.top1} | {row.top5} |\n"
        )
    return _PRINTED_HEADER + "".join(lines)
