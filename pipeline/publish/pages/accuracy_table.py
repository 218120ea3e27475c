"""The published MobileNetV2 table, and ours in its form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """What the original authors published of `variant`; None if they did not."""
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


def is_comparable(entry: dict[str, Any]) -> bool:
    """Whether an entry of index.json answers ImageNet's question: which of 1000 classes."""
    return int(entry["classes"]) == IMAGENET_CLASSES


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
    for name, (top1, top5, pixel1_ms) in PUBLISHED_V2.items():
        layout = architecture(Variant.parse(name), IMAGENET_OUTPUTS)
        lines.append(
            f"| {name} | {macs_millions(layout.macs)} | {parameters_millions(layout.parameters)} "
            f"| {top1} | {top5} | {pixel1_ms} |\n"
        )
    return _PUBLISHED_HEADER + "".join(lines)


def _published_v1() -> str:
    """V1's MACs were published rounded; six of them are not what its code computes."""
    lines = []
    for name, (macs, parameters, top1, top5) in PUBLISHED_V1.items():
        computed = architecture(Variant.parse(name), IMAGENET_OUTPUTS).macs
        remark = "" if round(computed / 1e6) == macs else " (not what the code computes)"
        lines.append(f"| {name} | {macs}{remark} | {computed} | {parameters} | {top1} | {top5} |\n")
    return _PUBLISHED_V1_HEADER + "".join(lines)
