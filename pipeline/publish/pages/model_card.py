"""The model card: origin, recipe, accuracy, input, limits and files of a published model."""

from __future__ import annotations

import json
from typing import Any

from pipeline.publish.pages import accuracy_table
from pipeline.publish.pages.accuracy_table import code, escaped
from pipeline.publish.pages.index_page import short_commit
from pipeline.publish.published_index import PublishedEntry


def card(entry: PublishedEntry) -> str:
    """Return the Markdown card of a published model."""
    name, lineage = entry.name, entry.lineage
    return (
        f"{_front_matter(entry)}"
        f"# {name}\n\n"
        f"An image classifier with {entry.classes} classes: "
        f"{accuracy_table.macs_millions(entry.macs)} million multiply-accumulates, "
        f"{accuracy_table.parameters_millions(entry.parameters)} million parameters. "
        f"Archive [{name}.tgz]({entry.file}), SHA-256 `{entry.sha256}`.\n\n"
        "## Data\n\n"
        f"Records with digest {code(lineage.records_digest)}; {entry.classes} classes; "
        f"{entry.examples} validation images, all of them used for the figures below; "
        f"unreadable images of the source, in neither split: {entry.rejected}.\n\n"
        "## Recipe\n\n"
        f"Recipe {code(entry.recipe)}, {lineage.checkpoint_step} steps, weights "
        f"`{entry.weights}`, code {code(short_commit(lineage.git_commit))}, "
        f"config {code(lineage.config_digest[:12])}.\n\n"
        f"{_recipe(entry.config)}\n"
        "## Metrics\n\n"
        f"{_metrics(entry)}\n"
        f"{_original(entry)}"
        f"Latency is the median with LiteRT, one thread, on {escaped(entry.host.cpu)} "
        f"({entry.host.cores} cores, {escaped(entry.host.system)}).\n\n"
        "## Input and output\n\n"
        f"{_contract(entry)}\n"
        "## Limits\n\n"
        f"{_limits(entry)}\n"
        "## Files\n\n"
        f"{_files(entry)}"
    )


def _front_matter(entry: PublishedEntry) -> str:
    """Return the head of the card that model hubs read; JSON is YAML."""
    result = {
        "task": {"type": "image-classification"},
        "metrics": [
            {"type": "accuracy", "name": "top1", "value": entry.checkpoint_top1},
            {"type": "accuracy", "name": "top5", "value": entry.checkpoint_top5},
        ],
    }
    return (
        "---\n"
        "library_name: keras\n"
        "pipeline_tag: image-classification\n"
        "tags: [mobilenet, tensorflow, tflite]\n"
        f"model-index: {json.dumps([{'name': entry.name, 'results': [result]}])}\n"
        "---\n\n"
    )


def _recipe(config: dict[str, Any]) -> str:
    sections = [(key, value) for key, value in config.items() if isinstance(value, dict)]
    lines = [
        f"- {escaped(section)}: "
        + ", ".join(f"{code(key)} {escaped(str(value))}" for key, value in fields.items())
        + "\n"
        for section, fields in sections
        if section != "loop"
    ]
    return "".join([f"- seed {escaped(str(config['seed']))}\n" if "seed" in config else "", *lines])


def _metrics(entry: PublishedEntry) -> str:
    lines = ["| format | top-1 | top-5 | latency (ms) |\n", "|---|---|---|---|\n"]
    lines += [
        accuracy_table.markdown_row(
            escaped(name),
            accuracy_table.percent(top1),
            accuracy_table.percent(entry.top5.get(name)),
            accuracy_table.milliseconds(entry.latency_ms.get(name)),
        )
        for name, top1 in entry.top1.items()
    ]
    return "".join(lines)


def _original(entry: PublishedEntry) -> str:
    theirs = accuracy_table.original(entry.name)
    if theirs is None:
        return "The original authors published no model of this size.\n\n"
    if not accuracy_table.is_comparable(entry):
        return (
            f"The original of this size has top-1 {theirs.top1} on ImageNet; these figures are of "
            "another dataset and say nothing about it.\n\n"
        )
    ours = 100 * entry.checkpoint_top1
    return (
        f"The original authors published top-1 {theirs.top1} and top-5 {theirs.top5}; this one "
        f"differs by {ours - theirs.top1:+.1f} points in top-1.\n\n"
    )


def _contract(entry: PublishedEntry) -> str:
    contract = entry.input_contract.to_json() if entry.input_contract else {}
    lines = [
        f"- {name}: {escaped(value) if isinstance(value, str) else value}\n"
        for name, value in contract.items()
    ]
    return (
        "The same lines are in the TF-Lite files' metadata and in the info file. A quantised file "
        "also says with which scale and zero point its bytes are meant.\n\n" + "".join(lines)
    )


def _limits(entry: PublishedEntry) -> str:
    lines = [
        "- It knows its classes only: any other image gets one of them, often with high "
        "probability. The probabilities are not calibrated.\n",
        "- The figures hold for images like the validation set's; another camera, crop or "
        "resize rule costs accuracy.\n",
        "- Latency was measured on one machine and orders models, it does not predict a phone.\n",
    ]
    if not accuracy_table.is_comparable(entry):
        lines.append(
            f"- {entry.classes} classes and {entry.examples} validation images: a difference "
            f"of {100 / entry.examples:.2f} points is one image.\n"
        )
    return "".join(lines)


def _files(entry: PublishedEntry) -> str:
    lines = ["| file | bytes |\n", "|---|---|\n"]
    lines += [
        accuracy_table.markdown_row(escaped(name), f"{size}")
        for name, size in sorted(entry.file_bytes.items())
    ]
    return "".join(lines)
