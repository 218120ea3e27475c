"""A model card: what it is, from what, how good, how to feed it, and where it ends."""

from __future__ import annotations

import json
from typing import Any

from pipeline.publish.pages import accuracy_table
from pipeline.publish.pages.index_page import short_commit


def card(entry: dict[str, Any]) -> str:
    """The Markdown card of an entry of index.json."""
    name, lineage = entry["variant"], entry["lineage"]
    return (
        f"{_front_matter(entry)}"
        f"# {name}\n\n"
        f"An image classifier with {entry['classes']} classes: "
        f"{accuracy_table.macs_millions(entry['macs'])} million multiply-accumulates, "
        f"{accuracy_table.parameters_millions(entry['parameters'])} million parameters. "
        f"Archive [{name}.tgz]({entry['file']}), SHA-256 `{entry['sha256']}`.\n\n"
        "## Data\n\n"
        f"Records with digest `{lineage['records_digest']}`; {entry['classes']} classes; "
        f"{entry['examples']} validation images, all of them used for the figures below; "
        f"unreadable images of the source, in neither split: {entry['rejected']}.\n\n"
        "## Recipe\n\n"
        f"Recipe `{entry['recipe']}`, {lineage['checkpoint_step']} steps, weights "
        f"`{entry['weights']}`, code `{short_commit(lineage['git_commit'])}`, "
        f"config `{lineage['config_digest'][:12]}`.\n\n"
        f"{_recipe(entry['config'])}\n"
        "## Metrics\n\n"
        f"{_metrics(entry)}\n"
        f"{_original(entry)}"
        f"Latency is the median with LiteRT, one thread, on {entry['host']['cpu']} "
        f"({entry['host']['cores']} cores, {entry['host']['system']}).\n\n"
        "## Input and output\n\n"
        f"{_contract(entry)}\n"
        "## Limits\n\n"
        f"{_limits(entry)}\n"
        "## Files\n\n"
        f"{_files(entry)}"
    )


def _front_matter(entry: dict[str, Any]) -> str:
    """What model hubs read (JSON is YAML)."""
    result = {
        "task": {"type": "image-classification"},
        "metrics": [
            {"type": "accuracy", "name": key, "value": entry[key]["checkpoint"]}
            for key in ("top1", "top5")
        ],
    }
    return (
        "---\n"
        "library_name: keras\n"
        "pipeline_tag: image-classification\n"
        "tags: [mobilenet, tensorflow, tflite]\n"
        f"model-index: {json.dumps([{'name': entry['variant'], 'results': [result]}])}\n"
        "---\n\n"
    )


def _recipe(config: dict[str, Any]) -> str:
    sections = [(key, value) for key, value in config.items() if isinstance(value, dict)]
    lines = [
        f"- {section}: " + ", ".join(f"`{key}` {value}" for key, value in fields.items()) + "\n"
        for section, fields in sections
        if section != "loop"
    ]
    return "".join([f"- seed {config['seed']}\n" if "seed" in config else "", *lines])


def _metrics(entry: dict[str, Any]) -> str:
    lines = ["| format | top-1 | top-5 | latency (ms) |\n", "|---|---|---|---|\n"]
    lines += [
        accuracy_table.markdown_row(
            name,
            accuracy_table.percent(top1),
            accuracy_table.percent(entry["top5"].get(name)),
            accuracy_table.milliseconds(entry["latency_ms"].get(name)),
        )
        for name, top1 in entry["top1"].items()
    ]
    return "".join(lines)


def _original(entry: dict[str, Any]) -> str:
    theirs = accuracy_table.original(entry["variant"])
    if theirs is None:
        return "The original authors published no model of this size.\n\n"
    if not accuracy_table.is_comparable(entry):
        return (
            f"The original of this size has top-1 {theirs.top1} on ImageNet; these figures are of "
            "another dataset and say nothing about it.\n\n"
        )
    ours = 100 * entry["top1"]["checkpoint"]
    return (
        f"The original authors published top-1 {theirs.top1} and top-5 {theirs.top5}; this one "
        f"differs by {ours - theirs.top1:+.1f} points in top-1.\n\n"
    )


def _contract(entry: dict[str, Any]) -> str:
    contract = entry["input_contract"]
    lines = [f"- {key}: {value}\n" for key, value in contract.items()]
    return (
        "The same lines are in the TF-Lite files' metadata and in the info file. An int8 file "
        "says with which scale and zero point its bytes are meant.\n\n" + "".join(lines)
    )


def _limits(entry: dict[str, Any]) -> str:
    lines = [
        "- It knows its classes only: any other image gets one of them, often with high "
        "probability. The probabilities are not calibrated.\n",
        "- The figures hold for images like the validation set's; another camera, crop or "
        "resize rule costs accuracy.\n",
        "- Latency was measured on one machine and orders models, it does not predict a phone.\n",
    ]
    if not accuracy_table.is_comparable(entry):
        lines.append(
            f"- {entry['classes']} classes and {entry['examples']} validation images: a difference "
            f"of {100 / entry['examples']:.2f} points is one image.\n"
        )
    return "".join(lines)


def _files(entry: dict[str, Any]) -> str:
    lines = ["| file | bytes |\n", "|---|---|\n"]
    lines += [
        accuracy_table.markdown_row(name, f"{size}")
        for name, size in sorted(entry["file_bytes"].items())
    ]
    return "".join(lines)
