"""The page of a published folder: table, plots, and the origin of every row."""

from __future__ import annotations

from pipeline.publish.pages import accuracy_table, plots
from pipeline.publish.pages.accuracy_table import code, escaped
from pipeline.publish.published_index import PublishedEntry

PAGE = "README.md"
MACS_PLOT = "madds_top1_accuracy.svg"
LATENCY_PLOT = "mnet_v1_vs_v2_latency.svg"


def files(entries: list[PublishedEntry]) -> dict[str, bytes]:
    """Return the page and its plots by file name; the same entries give the same bytes."""
    return {
        MACS_PLOT: plots.accuracy_over_macs(entries),
        LATENCY_PLOT: plots.latency(entries),
        PAGE: page(entries).encode(),
    }


def page(entries: list[PublishedEntry]) -> str:
    """Return the README of a folder of published models."""
    hosts = sorted({f"{escaped(entry.host.cpu)}, one thread" for entry in entries})
    elsewhere = [entry.name for entry in entries if not accuracy_table.is_comparable(entry)]
    caution = (
        "Not trained on ImageNet, and therefore without the original's figures: "
        f"{', '.join(elsewhere)}.\n\n"
        if elsewhere
        else ""
    )
    return (
        "# MobileNet checkpoints\n\n"
        "Every figure was measured on the file in the row: accuracy on the whole validation set "
        f"through the file's own runtime, latency (median) with LiteRT on {'; '.join(hosts)}. "
        "`original` is what the original authors published, the difference in points.\n\n"
        f"{accuracy_table.beside_original(entries)}\n"
        f"{caution}"
        f"{''.join(map(_note, entries))}\n"
        "Download and verify one with `mobilenet fetch NAME --from THIS_FOLDER`.\n\n"
        "## Latency\n\n"
        f"![MobileNetV1 against V2, latency]({LATENCY_PLOT})\n\n"
        "## MACs\n\n"
        "Published figures of V1, V2 and V3 by their authors, of V2 trained by others, and ours "
        "where they were measured on ImageNet.\n\n"
        f"![Top-1 accuracy over multiply-accumulates]({MACS_PLOT})\n\n"
        "## As published by the original authors (ImageNet)\n\n"
        f"{accuracy_table.published()}"
    )


def _note(entry: PublishedEntry) -> str:
    lineage = entry.lineage
    return (
        f"- [{entry.name}]({entry.name}.md): recipe {code(entry.recipe)}, step "
        f"{lineage.checkpoint_step}, {entry.examples} validation images, "
        f"{entry.classes} classes, records {code(lineage.records_digest[:12])}, "
        f"code {code(short_commit(lineage.git_commit))}, "
        f"[{entry.version_file.partition('/')[2]}]({entry.version_file})\n"
    )


def short_commit(commit: str) -> str:
    """Return `0123456789ab`, with `-dirty` if the commit has it."""
    digest, _, rest = commit.partition("-")
    return f"{digest[:12]}-{rest}" if rest else digest[:12]
