"""Every stage at ImageNet's counts: its time and its memory.

    python -m benchmarks.scale DIR                            # everything, in about an hour
    python -m benchmarks.scale DIR --stages prepare,plan      # these, again or for the first time
    python -m benchmarks.scale DIR --counts small             # a trial of about five minutes

The source has the counts, names and archives of ILSVRC2012, and JPEGs of 1.5 KB. Each stage is the
real command in its own process. DIR is continued: without `--stages`, what it has figures of is not
measured again. With `--export-images`, formats are compared on a sample, and such an export is not
published.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.imagenet_counts import Counts, write_source
from benchmarks.measured import Measured, run_measured
from benchmarks.photographs import write_archives
from preprocessing import limits

VARIANT = "mobilenet_v2_0.35_96"
BATCH, STEPS = 32, 10  # of `train`
FEW = Counts(train=1000, validation=100, classes=10)  # the start of `train` is compared with these
ROUNDS_OF_STARTS = 2
FIRST_STEP = b"train: step 1/"
FIGURES = "figures.json"

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        counts: Images and classes of the source.
        planned: Images and classes of the plan that is measured alone.
        true_size_images: Images of 500 x 375 pixels whose `prepare` is measured as well.
        bare_batches: Batches that the bare model classifies in a round.
    """

    counts: Counts
    planned: Counts
    true_size_images: int
    bare_batches: int


SIZES = {
    "imagenet": Size(
        counts=Counts(),
        planned=Counts(train=14_197_122, validation=0, classes=21_841),
        true_size_images=16_000,
        bare_batches=100,
    ),
    "small": Size(
        counts=Counts(train=2000, validation=200, classes=20),
        planned=Counts(train=20_000, validation=0, classes=50),
        true_size_images=500,
        bare_batches=2,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """What is measured, and where.

    Attributes:
        folder: Folder of everything that is made.
        size: How much is measured.
        export_images: Validation images on which formats are compared; 0 for all.
    """

    folder: Path
    size: Size
    export_images: int

    def path(self, name: str) -> str:
        """Return the path of something in the folder."""
        return str(self.folder / name)

    def cleared(self, name: str) -> str:
        """Remove something in the folder, and return its path."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.path(name)


def mobilenet(*arguments: str, until: bytes = b"") -> Measured:
    """Measure one command of the real command line."""
    return run_measured([sys.executable, "-m", "pipeline", *arguments], until=until)


def figures(measured: Measured, **more: Any) -> Figures:
    """Return what is kept of one measurement."""
    return {
        "seconds": round(measured.seconds, 1),
        "largest_mib": round(measured.largest_mib),
        "all_mib": round(measured.all_mib),
        **more,
    }


def last_line(measured: Measured) -> Figures:
    """Return the JSON object that a command prints."""
    result: Figures = json.loads(measured.output.splitlines()[-1])
    return result


def source(scale: Scale) -> Figures:
    """Write the source, unless it is there."""
    started = time.perf_counter()
    if not os.path.exists(scale.path("source")):
        write_source(scale.cleared("source.partial"), scale.size.counts)
        os.replace(scale.path("source.partial"), scale.path("source"))
    num_bytes = sum(file.stat().st_size for file in Path(scale.path("source")).iterdir())
    return {"seconds": round(time.perf_counter() - started, 1), "bytes": num_bytes}


def prepare(scale: Scale) -> Figures:
    """Write the records."""
    measured = _prepare(scale.path("source"), scale.cleared("records"))
    result = last_line(measured)
    return figures(
        measured,
        images_per_second=round(sum(result["examples"].values()) / measured.seconds),
        digest=result["digest"],
    )


def _prepare(source_folder: str, records: str) -> Measured:
    return mobilenet("prepare", "--source", source_folder, "--records", records)


def prepare_true_size(scale: Scale) -> Figures:
    """Write records of images as large as ImageNet's, from which the time of all follows."""
    folder = scale.path("true-size")
    if not os.path.exists(folder):
        partial = scale.cleared("true-size.partial")
        write_archives(partial, scale.size.true_size_images, width=500, height=375, quality=88)
        os.replace(partial, folder)
    measured = _prepare(folder, scale.cleared("true-size-records"))
    scale.cleared("true-size-records")
    num_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
    return figures(
        measured,
        images=scale.size.true_size_images,
        megabytes=round(num_bytes / 1e6),
        megabytes_per_second=round(num_bytes / measured.seconds / 1e6),
    )


def inspect(scale: Scale) -> Figures:
    """Count and draw, without reading the shards."""
    return figures(
        mobilenet("inspect", scale.path("records"), "--output", scale.path("inspection"))
    )


def inspect_verify(scale: Scale) -> Figures:
    """Read every shard and compare all digests."""
    return figures(
        mobilenet(
            "inspect", scale.path("records"), "--verify", "--output", scale.path("inspection")
        )
    )


def train(scale: Scale) -> Figures:
    """Train a few steps and evaluate the raw and the averaged weights, as at every end of a run."""
    return figures(_train(scale.path("records"), scale.cleared("run")))


def _train(records: str, workdir: str, until: bytes = b"") -> Measured:
    settings = {
        "training.batch_per_replica": BATCH,
        "training.total_images": BATCH * STEPS,
        "loop.steps_per_loop": 1,
    }
    return mobilenet(
        *("train", "--variant", VARIANT, "--recipe", "published"),
        *("--records", records, "--workdir", workdir),
        *(f"--set={name}={value}" for name, value in settings.items()),
        until=until,
    )


def start_of_train(scale: Scale) -> Figures:
    """Compare the time until the first step with that on 1,000 images."""
    few = scale.folder / "few"
    if not (few / "records" / "dataset.json").exists():
        shutil.rmtree(few, ignore_errors=True)
        write_source(str(few / "source"), FEW)
        _prepare(str(few / "source"), str(few / "records"))
    best: dict[str, Measured] = {}
    for _ in range(ROUNDS_OF_STARTS):
        for name in ("few/records", "records"):
            measured = _train(scale.path(name), scale.cleared("start"), FIRST_STEP)
            best[name] = min(measured, best.get(name, measured), key=lambda one: one.seconds)
    scale.cleared("start")
    few_seconds = best["few/records"].seconds
    return figures(
        best["records"],
        seconds_with_1000_images=round(few_seconds, 1),
        seconds_more=round(best["records"].seconds - few_seconds, 1),
    )


def evaluate(scale: Scale) -> Figures:
    """Evaluate all validation images."""
    Path(scale.path("run/evaluation.json")).unlink(missing_ok=True)  # or it would not do it again
    measured = mobilenet(
        "evaluate", "--workdir", scale.path("run"), "--records", scale.path("records")
    )
    return figures(measured, images=last_line(measured)["examples"])


def forward(scale: Scale) -> Figures:
    """Compare the evaluation with the bare model."""
    measured = run_measured(
        [
            *(sys.executable, "-m", "benchmarks.evaluation"),
            *("--workdir", scale.path("run"), "--records", scale.path("records")),
            *("--bare-batches", str(scale.size.bare_batches)),
        ]
    )
    return figures(measured, **last_line(measured))


def export(scale: Scale) -> Figures:
    """Export every format and compare each with the checkpoint."""
    sample = ["--validation-images", str(scale.export_images)] if scale.export_images else []
    measured = mobilenet(
        *("export", "--workdir", scale.path("run"), "--records", scale.path("records")),
        *("--output", scale.cleared("export"), *sample),
    )
    images = scale.export_images or scale.size.counts.validation
    return figures(measured, images=images)


def publish(scale: Scale) -> Figures:
    """Register and publish the export, unless it was compared on a sample."""
    if scale.export_images:
        return {"left_out": "the export was compared on a sample"}
    registry = scale.folder / "registry.db"
    registry.unlink(missing_ok=True)
    return figures(
        mobilenet(
            *("publish", scale.path("export"), "--to", scale.cleared("published")),
            *("--registry", f"sqlite:///{registry.resolve()}"),
        )
    )


def plan(scale: Scale) -> Figures:
    """Plan and shuffle ImageNet-21k, of which no image is there."""
    planned = scale.size.planned
    measured = run_measured(
        [
            *(sys.executable, "-m", "benchmarks.plan", "--folder", scale.path("")),
            *("--images", str(planned.train), "--classes", str(planned.classes)),
        ]
    )
    return figures(measured, **{"images": planned.train, "classes": planned.classes})


STAGES: dict[str, Callable[[Scale], Figures]] = {
    "source": source,
    "prepare": prepare,
    "prepare_true_size": prepare_true_size,
    "inspect": inspect,
    "inspect_verify": inspect_verify,
    "start_of_train": start_of_train,
    "train": train,
    "evaluate": evaluate,
    "forward": forward,
    "export": export,
    "publish": publish,
    "plan": plan,
}


def run_stages(scale: Scale, chosen: Sequence[str]) -> dict[str, Figures]:
    """Measure the chosen stages, or those without figures; return the figures of all."""
    path = scale.folder / FIGURES
    known: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}
    for name, stage in STAGES.items():
        if name in chosen or (not chosen and name not in known):
            print(f"scale: {name}", file=sys.stderr, flush=True)
            known[name] = stage(scale)
            path.write_text(json.dumps(known, indent=2) + "\n")
    return known


def table(known: dict[str, Figures]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| stage | seconds | largest process MiB | all processes MiB | and |",
        "|---|---|---|---|---|",
    ]
    columns = ("seconds", "largest_mib", "all_mib")
    for name in STAGES:
        if name in known:
            cells = [str(known[name].get(column, "-")) for column in columns]
            more = ", ".join(
                f"{key} {value}" for key, value in known[name].items() if key not in columns
            )
            lines.append(f"| {' | '.join([name.replace('_', ' '), *cells, more])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("folder", type=Path, metavar="DIR")
    arguments.add_argument(
        "--stages",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,...",
        help=f"of {', '.join(STAGES)} [all without figures]",
    )
    arguments.add_argument("--counts", choices=SIZES, default="imagenet")
    arguments.add_argument(
        "--export-images", type=int, default=0, metavar="N", help="compare formats on N [all]"
    )
    options = arguments.parse_args()
    if unknown := set(options.stages) - STAGES.keys():
        arguments.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    scale = Scale(
        folder=options.folder, size=SIZES[options.counts], export_images=options.export_images
    )
    known = run_stages(scale, options.stages)
    print(f"On {limits.num_cores()} cores:\n\n{table(known)}")


if __name__ == "__main__":
    main()
