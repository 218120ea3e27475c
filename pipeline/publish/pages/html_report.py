"""One self-contained HTML page of an export or of a published folder."""

from __future__ import annotations

import base64
import functools
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from pipeline.export import directory, history, per_image
from pipeline.export.formats.registry import accuracy_columns, latency_columns
from pipeline.export.metrics import ExportMetrics
from pipeline.publish import published_index
from pipeline.publish.pages import accuracy_table, index_page, plots, templates
from pipeline.publish.published_index import PublishedEntry
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import Manifest

SAMPLES = 12
MISTAKES = 12
PICTURE_SIDE = 160  # pixels, at most; keeps the page small
CONFUSION_CLASSES = 25  # with more classes the page has a list of pairs instead of a matrix
PAIRS = 15
TEMPLATE = os.path.join(templates.FOLDER, "report.html")

Picture = Callable[[int], str]  # from a validation image to a `data:` address


def report(folder: str, output: str, records: str | None) -> dict[str, Any]:
    """Write the page of `folder` to `output`.

    Args:
        folder: An export directory, or a published folder (local or `gs://`).
        output: The HTML file to write.
        records: The records that an export was measured on, whose images are shown; or None.

    Returns:
        The path of the page and the names of its models.

    Raises:
        UsageError: `folder` is neither, or it was measured on other records than `records`.
    """
    if directory.is_export(folder):
        with directory.at_hand(folder) as export:
            content = {**_of_export(export, records), "subtitle": folder}
    elif published_index.is_published(folder):
        if records:
            raise UsageError("--records shows the images of one export; name its folder")
        content = _of_published(folder)
    else:
        raise UsageError(
            f"{folder} is no export and publishes nothing; it has no {directory.METRICS} and no "
            f"{published_index.INDEX}"
        )
    filters: dict[str, Callable[..., Any]] = {
        "macs_millions": accuracy_table.macs_millions,
        "parameters_millions": accuracy_table.parameters_millions,
        "percent": accuracy_table.percent,
        "milliseconds": accuracy_table.milliseconds,
        "short_commit": index_page.short_commit,
        "breakable": _breakable,
    }
    storage.update_bytes(output, templates.render(TEMPLATE, content, filters))
    return {"report": output, "models": [entry.name for entry in content["entries"]]}


def _breakable(name: str) -> Markup:
    """Return a name that a narrow table may break at its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _of_published(folder: str) -> dict[str, Any]:
    entries = published_index.read_index(folder)
    return {
        **_figures(entries),
        "title": "Published MobileNet checkpoints",
        "subtitle": folder,
        "model": None,
    }


def _of_export(folder: str, records: str | None) -> dict[str, Any]:
    metrics = directory.read_metrics(folder)
    directory.require_intact(folder, metrics)
    entry = published_index.unpublished_entry(folder, metrics)
    names = directory.read_labels(folder)
    answers = per_image.read(folder, num_outputs=len(names))
    curves = history.read(folder)
    mistakes = np.flatnonzero(~answers.right)
    surest = mistakes[np.argsort(-answers.scores[mistakes, 0], kind="stable")]
    # The samples are spread evenly over the records, so they show what the model does.
    spread = np.linspace(0, len(answers.labels) - 1, min(SAMPLES, len(answers.labels)))
    picture = _pictures(records, metrics) if records else None
    return {
        **_figures([entry]),
        "title": entry.name,
        "subtitle": folder,
        "model": {
            "formats": [
                {
                    "name": name,
                    "figures": figures,
                    "latency_ms": entry.latency_ms.get(name),
                    "bytes": metrics.sizes.get(name),
                    "arena_bytes": metrics.arena_bytes.get(name),
                }
                for name, figures in metrics.formats.items()
            ],
            "files": sorted(entry.file_bytes.items()),
            "curves": _curves(curves),
            "classes": _classes(answers, names),
            "confusion": _confusion(answers, names),
            "pairs": _pairs(answers, names),
            "num_mistakes": len(mistakes),
            "samples": [
                _shown(int(i), answers, names, picture) for i in np.unique(spread.astype(int))
            ],
            "mistakes": [_shown(int(i), answers, names, picture) for i in surest[:MISTAKES]],
            "pictures": picture is not None,
        },
    }


def _figures(entries: list[PublishedEntry]) -> dict[str, Any]:
    return {
        "entries": entries,
        "originals": {
            entry.name: theirs
            for entry in entries
            if accuracy_table.is_comparable(entry)
            and (theirs := accuracy_table.original(entry.name))
        },
        "accuracy_columns": accuracy_columns(),
        "latency_columns": latency_columns(),
        "macs_plot": plots.on_a_page(
            functools.partial(plots.draw_accuracy_over_macs, entries=entries),
            "Top-1 accuracy on ImageNet over multiply-accumulates of published networks and ours",
        ),
        "published_latency_plot": plots.on_a_page(
            plots.draw_published_latency,
            "Top-1 accuracy on ImageNet over the published latency on a Pixel 1",
        ),
        "measured_latency_plot": plots.on_a_page(
            functools.partial(plots.draw_measured_latency, entries=entries),
            f"Measured latency of {', '.join(entry.name for entry in entries)}; the table has it",
        ),
    }


def _curves(curves: history.History) -> list[dict[str, Any]]:
    """Return the plots of a run's losses and accuracies, of those that it has."""
    return [
        {
            "title": title,
            "plot": plots.on_a_page(
                functools.partial(
                    plots.draw_curves, history=curves, names=names, ylabel=title.lower()
                ),
                f"{title} over the steps of the training: {', '.join(names)}",
            ),
        }
        for title, names in (
            ("Loss", ("train/loss", "train/regularization")),
            ("Accuracy", ("train/top1", "validation/top1", "validation/top5")),
        )
        if any(curves.get(name) for name in names)
    ]


def _classes(answers: per_image.PerImage, names: list[str]) -> list[dict[str, Any]]:
    """Return every class that has images, the worst first."""
    right, images = answers.class_counts(len(names))
    shown = np.flatnonzero(images)
    order = shown[np.argsort((right[shown] / images[shown]), kind="stable")]
    return [
        {"name": names[i], "images": int(images[i]), "accuracy": float(right[i] / images[i])}
        for i in order
    ]


def _confusion(answers: per_image.PerImage, names: list[str]) -> dict[str, Any] | None:
    """Return the counts `rows[true][best]` if there are few classes."""
    present = np.unique(np.concatenate([answers.labels, answers.classes[:, 0]]))
    if len(present) > CONFUSION_CLASSES:
        return None
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (answers.labels, answers.classes[:, 0]), 1)
    kept = counts[np.ix_(present, present)]
    return {
        "names": [names[i] for i in present],
        "rows": kept.tolist(),
        "most": max(1, int((kept - np.diag(np.diag(kept))).max(initial=0))),
    }


def _pairs(answers: per_image.PerImage, names: list[str]) -> list[dict[str, Any]]:
    """Return the most frequent confusions."""
    wrong = ~answers.right
    pairs, counts = np.unique(
        np.stack([answers.labels[wrong], answers.classes[wrong, 0]], axis=1),
        axis=0,
        return_counts=True,
    )
    return [
        {"label": names[pairs[i, 0]], "answer": names[pairs[i, 1]], "images": int(counts[i])}
        for i in np.argsort(-counts, kind="stable")[:PAIRS]
    ]


def _shown(
    index: int, answers: per_image.PerImage, names: list[str], picture: Picture | None
) -> dict[str, Any]:
    return {
        "index": int(answers.positions[index]),
        "picture": picture(int(answers.positions[index])) if picture else "",
        "label": names[answers.labels[index]],
        "right": bool(answers.right[index]),
        "rank": int(answers.ranks[index]) + 1,
        "guesses": [
            {
                "name": names[guess],
                "probability": float(score),
                "is_label": bool(guess == answers.labels[index]),
            }
            for guess, score in zip(answers.classes[index], answers.scores[index], strict=True)
        ],
    }


def _pictures(records: str, metrics: ExportMetrics) -> Picture:
    """Return a function from the index of a validation image to a small `data:` address."""
    manifest = Manifest.read(records)
    if manifest.digest != metrics.lineage.records_digest:
        raise UsageError(
            f"{records} are not the records this export was measured on (digest "
            f"{manifest.digest[:12]}, measured on {metrics.lineage.records_digest[:12]})"
        )
    shard_index, offsets = schema.read_record_offsets(records, manifest, "validation")
    shards = manifest.shards["validation"]

    def picture(index: int) -> str:
        if index >= len(shard_index):
            raise DataError(
                f"the export speaks of validation image {index}, {records} have "
                f"{len(shard_index)}; export again"
            )
        name = storage.join(records, shards[shard_index[index]].file)
        with storage.open_read(name) as stream:
            stream.seek(int(offsets[index]))
            features = tfrecord.parse(next(tfrecord.read_records(stream, name)))
        image = Image.open(io.BytesIO(features[schema.ENCODED][0])).convert("RGB")
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=90)
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"

    return picture
