"""The published MobileNetV2 table, and ours in its form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from preprocessing.records.imagenet import NUM_CLASSES
from training.models.architecture import architecture
from training.models.families import FAMILIES
from training.models.variants import Variant

IMAGENET_OUTPUTS = NUM_CLASSES + 1

# Rows of the original authors' tables, by variant.
PUBLISHED_V2 = FAMILIES["mobilenet_v2"].published_rows
PUBLISHED_V1 = FAMILIES["mobilenet_v1"].published_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A row of the original authors' tables; accuracy in percent."""

    macs_millions: int
    parameters_millions: float
    top1: float
    top5: float
    pixel1_ms: float | None = None  # V1 has no latency column


def original(variant: str) -> Original | None:
    """What the original authors published of `variant`; None if they did not."""
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


def is_comparable(entry: dict[str, Any]) -> bool:
    """Whether an entry of index.json answers ImageNet's question: which of 1000 classes."""
    return int(entry["classes"]) == NUM_CLASSES


NOTHING = "–"  # noqa: RUF001
_BESIDE_COLUMNS = (
    "Classification Checkpoint",
    "MACs (M)",
    "Parameters (M)",
    "Top 1 Accuracy",
    "original",
    "difference",
    "Top 5 Accuracy",
    "original",
    "difference",
    "int8 Top 1",
    "int8 difference",
    "float CPU (ms)",
    "int8 CPU (ms)",
    "original, Pixel 1 (ms)",
)
_HEADER = (
    "| Classification Checkpoint | MACs (M) | Parameters (M) | Top 1 Accuracy | Top 5 Accuracy "
    "| int8 Top 1 | float CPU (ms) | int8 CPU (ms) |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
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
    """Whole millions, truncated: the only rule that gives all 22 published figures."""
    return str(macs // 1_000_000)


def parameters_millions(parameters: int) -> str:
    """Millions with two decimals, truncated as published."""
    return f"{parameters // 10_000 / 100:.2f}"


def percent(fraction: float | None) -> str:
    """`71.8`, or a dash where nothing was measured."""
    return NOTHING if fraction is None else f"{100 * fraction:.1f}"


def milliseconds(value: float | None) -> str:
    """`73.80`, or a dash where nothing was measured."""
    return NOTHING if value is None else f"{value:.2f}"


def row(entry: dict[str, Any]) -> str:
    """One row of our table from an entry of index.json."""
    return markdown_row(
        f"[{entry['variant']}]({entry['file']})",
        macs_millions(entry["macs"]),
        parameters_millions(entry["parameters"]),
        percent(entry["top1"]["checkpoint"]),
        percent(entry["top5"]["checkpoint"]),
        percent(entry["top1"].get("tflite_int8")),
        milliseconds(entry["latency_ms"].get("tflite_float32")),
        milliseconds(entry["latency_ms"].get("tflite_int8")),
    )


def markdown_row(*cells: str) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |\n"


def beside_original(entries: list[dict[str, Any]]) -> str:
    """Ours, the original's figure, and the difference in points, in Markdown.

    Another dataset than ImageNet has no figure beside it: the same number would not mean the
    same.
    """
    lines = [markdown_row(*_BESIDE_COLUMNS), markdown_row(*["---"] * len(_BESIDE_COLUMNS))]
    for entry in entries:
        theirs = original(entry["variant"]) if is_comparable(entry) else None
        cells = [f"[{entry['variant']}]({entry['file']})"]
        cells += [macs_millions(entry["macs"]), parameters_millions(entry["parameters"])]
        for key in ("top1", "top5"):
            cells += _beside(entry[key]["checkpoint"], getattr(theirs, key, None))
        int8 = entry["top1"].get("tflite_int8")
        lost = NOTHING if int8 is None else _points(100 * (int8 - entry["top1"]["checkpoint"]))
        pixel1_ms = theirs.pixel1_ms if theirs else None
        cells += [percent(int8), lost]
        cells += [
            milliseconds(entry["latency_ms"].get(name))
            for name in ("tflite_float32", "tflite_int8")
        ]
        cells.append(NOTHING if pixel1_ms is None else f"{pixel1_ms}")
        lines.append(markdown_row(*cells))
    return "".join(lines)


def _beside(fraction: float, theirs: float | None) -> list[str]:
    if theirs is None:
        return [percent(fraction), NOTHING, NOTHING]
    # Both as they are printed, so that a reader's own subtraction agrees.
    return [percent(fraction), f"{theirs}", _points(round(100 * fraction, 1) - theirs)]


def _points(difference: float) -> str:
    return f"{difference:+.1f}"


def ours(entries: list[dict[str, Any]]) -> str:
    """Our table in Markdown."""
    return _HEADER + "".join(map(row, entries))


def published() -> str:
    """Both published tables in Markdown; V2's MACs and parameters are computed here."""
    return _published_v2() + "\n" + _published_v1()


def _published_v2() -> str:
    lines = []
    for name, published_row in PUBLISHED_V2.items():
        layout = architecture(Variant.parse(name), IMAGENET_OUTPUTS)
        lines.append(
            f"| {name} | {macs_millions(layout.macs)} | {parameters_millions(layout.parameters)} "
            f"| {published_row.top1} | {published_row.top5} | {published_row.pixel1_ms} |\n"
        )
    return _PUBLISHED_HEADER + "".join(lines)


def _published_v1() -> str:
    """V1's MACs were published rounded; six of them are not what its code computes."""
    lines = []
    for name, published_row in PUBLISHED_V1.items():
        macs = published_row.macs_millions
        computed = architecture(Variant.parse(name), IMAGENET_OUTPUTS).macs
        remark = "" if round(computed / 1e6) == macs else " (not what the code computes)"
        lines.append(
            f"| {name} | {macs}{remark} | {computed} | {published_row.parameters_millions} "
            f"| {published_row.top1} | {published_row.top5} |\n"
        )
    return _PUBLISHED_V1_HEADER + "".join(lines)
