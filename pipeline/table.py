"""The published MobileNetV2 table, and ours in its form."""

from __future__ import annotations

from typing import Any

from training.architecture import architecture
from training.variants import PUBLISHED_VARIANTS, Variant

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


def row(entry: dict[str, Any]) -> str:
    """One row of our table from an entry of index.json."""
    top1 = entry["top1"]
    cells = (
        f"[{entry['variant']}]({entry['file']})",
        macs_millions(entry["macs"]),
        parameters_millions(entry["parameters"]),
        f"{100 * top1['checkpoint']:.1f}",
        f"{100 * entry['top5']['checkpoint']:.1f}",
        f"{100 * top1['tflite_int8']:.1f}",
        f"{entry['latency_ms']['tflite_float32']:.2f}",
        f"{entry['latency_ms']['tflite_int8']:.2f}",
    )
    return f"| {' | '.join(cells)} |\n"


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


def _short(commit: str) -> str:
    """`0123456789ab`, and `-dirty` if it was."""
    digest, _, rest = commit.partition("-")
    return f"{digest[:12]}-{rest}" if rest else digest[:12]


def page(entries: list[dict[str, Any]]) -> str:
    """The README of a folder of published models."""
    hosts = sorted({f"{each['host']['cpu']}, one thread" for each in entries})
    notes = [
        f"- {each['variant']}: recipe `{each['recipe']}`, step "
        f"{each['lineage']['checkpoint_step']}, {each['examples']} validation images, "
        f"{each['classes']} classes, records `{each['lineage']['records_digest'][:12]}`, "
        f"code `{_short(each['lineage']['git_commit'])}`\n"
        for each in entries
    ]
    return (
        "# MobileNetV2 checkpoints\n\n"
        "Every figure was measured on the file in the row: accuracy on the whole validation set "
        f"through the file's own runtime, latency (median) with LiteRT on {'; '.join(hosts)}.\n\n"
        f"{ours(entries)}\n{''.join(notes)}\n"
        "## As published by the original authors (ImageNet)\n\n"
        f"{published()}"
    )
