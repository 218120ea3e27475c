"""The published MobileNetV2 table, and ours in its form."""

from __future__ import annotations

from typing import Any

from training.architecture import architecture
from training.variants import PUBLISHED_VARIANTS, Variant

IMAGENET_OUTPUTS = 1001

# top-1 %, top-5 %, Pixel 1 ms, as in slim's nets/mobilenet/README.md, in its order.
PUBLISHED = dict(
    zip(
        PUBLISHED_VARIANTS,
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


def published_rows() -> list[dict[str, Any]]:
    """The 22 published rows, MACs and parameters computed by this project."""
    rows = []
    for name, (top1, top5, pixel1_ms) in PUBLISHED.items():
        layout = architecture(Variant.parse(name), IMAGENET_OUTPUTS)
        rows.append(
            {
                "variant": name,
                "macs": layout.macs,
                "parameters": layout.parameters,
                "top1": top1,
                "top5": top5,
                "pixel1_ms": pixel1_ms,
            }
        )
    return rows


def ours(entries: list[dict[str, Any]]) -> str:
    """Our table in Markdown."""
    return _HEADER + "".join(map(row, entries))


def published() -> str:
    """The published table in Markdown."""
    lines = (
        f"| {each['variant']} | {macs_millions(each['macs'])} "
        f"| {parameters_millions(each['parameters'])} | {each['top1']} | {each['top5']} "
        f"| {each['pixel1_ms']} |\n"
        for each in published_rows()
    )
    return _PUBLISHED_HEADER + "".join(lines)


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
