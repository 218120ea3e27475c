"""Tables of accuracy: the published ones, and ours in their form."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.export.formats import registry as formats
from pipeline.publish.published_index import PublishedEntry
from training.models.architecture import architecture
from training.models.variants import PUBLISHED_VARIANTS, Variant

IMAGENET_OUTPUTS = 1001

# top-1 %, top-5 %, Pixel 1 ms, as in slim's nets/mobilenet/README.md, in its order.
PUBLISHED_V2 = dict(
    zip(
        (name for name in PUBLISHED_VARIANTS if "_v2_" in name),
        (
            (75.0, 92.5, 138.0),
            (74.4, 92.1, 123.0),
            (71.8, 91.0, 73.8),
            (70.7, 90.1, 55.1),
            (68.8, 89.0, 40.2),
            (65.3, 86.9, 27.6),
            (60.3, 83.2, 17.6),
            (69.8, 89.6, 55.8),
            (68.7, 88.9, 41.6),
            (66.4, 87.3, 30.4),
            (63.2, 85.3, 21.9),
            (58.8, 81.6, 14.2),
            (65.4, 86.4, 28.7),
            (63.9, 85.4, 21.1),
            (61.0, 83.2, 14.9),
            (57.7, 80.8, 9.9),
            (51.2, 75.8, 6.4),
            (60.3, 82.9, 19.7),
            (58.2, 81.2, 14.6),
            (55.7, 79.1, 10.5),
            (50.8, 75.0, 6.9),
            (45.5, 70.4, 4.5),
        ),
        strict=True,
    )
)
# MACs M, parameters M, top-1 %, top-5 %, as in slim's nets/mobilenet_v1.md, in its order.
PUBLISHED_V1 = dict(
    zip(
        (name for name in PUBLISHED_VARIANTS if "_v1_" in name),
        (
            (569, 4.24, 70.9, 89.9),
            (418, 4.24, 70.0, 89.2),
            (291, 4.24, 68.0, 87.7),
            (186, 4.24, 65.2, 85.8),
            (317, 2.59, 68.4, 88.2),
            (233, 2.59, 67.2, 87.3),
            (162, 2.59, 65.3, 86.0),
            (104, 2.59, 62.1, 83.9),
            (150, 1.34, 63.3, 84.9),
            (110, 1.34, 61.7, 83.6),
            (77, 1.34, 59.1, 81.9),
            (49, 1.34, 56.3, 79.4),
            (41, 0.47, 49.8, 74.2),
            (34, 0.47, 47.7, 72.3),
            (21, 0.47, 45.5, 70.3),
            (14, 0.47, 41.5, 66.3),
        ),
        strict=True,
    )
)

IMAGENET_CLASSES = 1000


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
    if variant in PUBLISHED_V2:
        layout = architecture(Variant.parse(variant), IMAGENET_OUTPUTS)
        top1, top5, pixel1_ms = PUBLISHED_V2[variant]
        return Original(
            macs_millions=layout.macs // 1_000_000,
            parameters_millions=layout.parameters // 10_000 / 100,
            top1=top1,
            top5=top5,
            pixel1_ms=pixel1_ms,
        )
    if variant in PUBLISHED_V1:
        macs, parameters, top1, top5 = PUBLISHED_V1[variant]
        return Original(macs_millions=macs, parameters_millions=parameters, top1=top1, top5=top5)
    return None


def is_comparable(entry: PublishedEntry) -> bool:
    """Return whether an entry answers ImageNet's question: which of 1000 classes."""
    return entry.classes == IMAGENET_CLASSES


NOTHING = "–"  # noqa: RUF001
_PUBLISHED_HEADER = (
    "| Classification Checkpoint | MACs (M) | Parameters (M) | Top 1 Accuracy | Top 5 Accuracy "
    "| Mobile CPU (ms) Pixel 1 |\n"
    "|---|---|---|---|---|---|\n"
)
_PUBLISHED_V1_HEADER = (
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


def markdown_header(*columns: str) -> str:
    """Return the head of a Markdown table."""
    return markdown_row(*columns) + f"|{'---|' * len(columns)}\n"


def ours(entries: list[PublishedEntry]) -> str:
    """Return our table in Markdown."""
    header = markdown_header(
        "Classification Checkpoint",
        "MACs (M)",
        "Parameters (M)",
        "Top 1 Accuracy",
        "Top 5 Accuracy",
        *(f"{column.label} Top 1" for column in formats.accuracy_columns()),
        *_latency_titles(),
    )
    return header + "".join(map(_row, entries))


def _row(entry: PublishedEntry) -> str:
    return markdown_row(
        *_size_cells(entry),
        percent(entry.checkpoint_top1),
        percent(entry.checkpoint_top5),
        *(percent(entry.top1.get(column.name)) for column in formats.accuracy_columns()),
        *_latency_cells(entry),
    )


def beside_original(entries: list[PublishedEntry]) -> str:
    """Return a Markdown table of our figures, the original's, and the difference in points.

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
            for column in formats.accuracy_columns()
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
    for column in formats.accuracy_columns():
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
    return [f"{column.label} CPU (ms)" for column in formats.latency_columns()]


def _latency_cells(entry: PublishedEntry) -> list[str]:
    return [milliseconds(entry.latency_ms.get(column.name)) for column in formats.latency_columns()]


def _beside(fraction: float, theirs: float | None) -> list[str]:
    if theirs is None:
        return [percent(fraction), NOTHING, NOTHING]
    # Both as they are printed, so that a reader's own subtraction agrees.
    return [percent(fraction), f"{theirs}", _points(round(100 * fraction, 1) - theirs)]


def _points(difference: float) -> str:
    return f"{difference:+.1f}"


def published() -> str:
    """Return both published tables in Markdown; V2's MACs and parameters are computed here."""
    return _published_v2() + "\n" + _published_v1()


def _published_v2() -> str:
    lines = []
    for name, (top1, top5, pixel1_ms) in PUBLISHED_V2.items():
        layout = architecture(Variant.parse(name), IMAGENET_OUTPUTS)
        lines.append(
            f"| {name} | {macs_millions(layout.macs)} | {parameters_millions(layout.parameters)} "
            f"| {top1} | {top5} | {pixel1_ms} |\n"
        )
    return _PUBLISHED_HEADER + "".join(lines)


def _published_v1() -> str:
    """Return V1's table. Its MACs were published rounded; six are not what its code computes."""
    lines = []
    for name, (macs, parameters, top1, top5) in PUBLISHED_V1.items():
        computed = architecture(Variant.parse(name), IMAGENET_OUTPUTS).macs
        remark = "" if round(computed / 1e6) == macs else " (not what the code computes)"
        lines.append(f"| {name} | {macs}{remark} | {computed} | {parameters} | {top1} | {top5} |\n")
    return _PUBLISHED_V1_HEADER + "".join(lines)
