"""A comparison of two models: every metric, every class, and whether chance explains it."""

from __future__ import annotations

import math
import os
import tempfile
from typing import Any

import numpy as np

from pipeline.export import directory, per_image
from pipeline.publish import mlflow_entry, registry
from pipeline.publish.pages import accuracy_table
from preprocessing import storage
from preprocessing.errors import UsageError

NUM_SHOWN = 10  # rows of the table of classes


def compare(a: str, b: str, uri: str) -> dict[str, Any]:
    """Compare two exports, each a directory or a registered version.

    Args:
        a: An export directory, `VARIANT@champion`, `VARIANT@published` or `VARIANT/VERSION`.
        b: The other model, in the same form; differences are `b - a`.
        uri: The registry that has the versions.

    Returns:
        `metrics`, for every number that either has `[a, b, b - a]`; and, if both were measured
        on the same records, `classes`, the fraction of every class that is right, ordered by
        how much it changed, and `images`, how many only one of the two gets right with the
        probability of such a difference by chance.

    Raises:
        UsageError: One of them is neither a directory nor a registered version.
    """
    with storage.temporary_folder("compare") as folder:
        sides = [
            reference if directory.is_export(reference) else _from_registry(reference, folder, uri)
            for reference in (a, b)
        ]
        metrics = [directory.read_metrics(side) for side in sides]
        result: dict[str, Any] = {
            "a": a,
            "b": b,
            "variants": [export.variant.name for export in metrics],
            "export_digests": [export.digest for export in metrics],
            "metrics": _side_by_side(*map(mlflow_entry.measurements, metrics)),
        }
        same_records = len({export.lineage.records_digest for export in metrics}) == 1
        if same_records:
            result |= _images(*sides)
        return result


def _from_registry(reference: str, folder: str, uri: str) -> str:
    if not any(mark in reference for mark in "@/") or os.path.isdir(reference):
        raise UsageError(
            f"{reference} is no export directory; write one, VARIANT@champion, VARIANT@published "
            "or VARIANT/VERSION"
        )
    names = (directory.METRICS, per_image.FILE, directory.LABELS)
    downloaded = tempfile.mkdtemp(dir=folder)
    registry.download(reference, names, downloaded, uri)
    return downloaded


def _side_by_side(a: dict[str, float], b: dict[str, float]) -> dict[str, list[float | None]]:
    rows: dict[str, list[float | None]] = {}
    for name in {**a, **b}:
        left, right = a.get(name), b.get(name)
        both = left is not None and right is not None
        rows[name] = [left, right, right - left if both else None]  # type: ignore[operator]
    return rows


def _images(a: str, b: str) -> dict[str, Any]:
    """Compare the predictions on the same images.

    The result is empty for exports of versions that did not keep predictions.
    """
    if not all(storage.exists(storage.join(side, per_image.FILE)) for side in (a, b)):
        return {}
    names = directory.read_labels(a)
    left, right = (per_image.read(side, num_outputs=len(names)) for side in (a, b))
    if not all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("positions", "labels")
    ):
        return {}
    hits_a, images = left.class_counts(len(names))
    hits_b, _ = right.class_counts(len(names))
    shown = np.flatnonzero(images)
    order = shown[np.argsort(-np.abs(hits_b - hits_a)[shown] / images[shown], kind="stable")]
    only_a = int(np.count_nonzero(left.right & ~right.right))
    only_b = int(np.count_nonzero(right.right & ~left.right))
    return {
        "images": {
            "examples": len(left.labels),
            "only_a_right": only_a,
            "only_b_right": only_b,
            "p_value": sign_test(only_a, only_b),
        },
        "classes": [
            {
                "class": int(index),
                "name": names[index],
                "images": int(images[index]),
                "a": float(hits_a[index] / images[index]),
                "b": float(hits_b[index] / images[index]),
                "difference": float((hits_b[index] - hits_a[index]) / images[index]),
            }
            for index in order
        ],
    }


def sign_test(only_a: int, only_b: int) -> float:
    """Return the p-value of the exact two-sided McNemar test.

    It is the probability of a split as uneven as this one between two equally good models.
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    log_tail = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(term) for term in log_tail))


def tables(result: dict[str, Any]) -> str:
    """Return the comparison in Markdown: every metric, and the classes that changed most."""
    lines = [f"A  {result['a']}\nB  {result['b']}\n\n", "| metric | A | B | B - A |\n"]
    lines += ["|---|---:|---:|---:|\n"]
    for name, (left, right, difference) in result["metrics"].items():
        lines.append(
            accuracy_table.markdown_row(
                accuracy_table.escaped(name),
                _number(left),
                _number(right),
                _number(difference, "+"),
            )
        )
    if "classes" not in result:
        lines.append("\nmeasured on different images: classes cannot be compared\n")
        return "".join(lines)
    images = result["images"]
    lines.append(
        f"\nof {images['examples']} images {images['only_a_right']} are right in A only, "
        f"{images['only_b_right']} in B only (p = {images['p_value']:.2g})\n\n"
        "| class | images | A right | B right | B - A |\n|---|---:|---:|---:|---:|\n"
    )
    for row in result["classes"][:NUM_SHOWN]:
        lines.append(
            accuracy_table.markdown_row(
                accuracy_table.escaped(row["name"]),
                f"{row['images']}",
                accuracy_table.percent(row["a"]),
                accuracy_table.percent(row["b"]),
                f"{100 * row['difference']:+.1f}",
            )
        )
    more = len(result["classes"]) - NUM_SHOWN
    return "".join(lines) + (f"and {more} classes that changed less\n" if more > 0 else "")


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return accuracy_table.NOTHING
    return f"{value:{sign},}" if value == int(value) else f"{value:{sign}.4f}"
