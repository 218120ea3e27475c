"""The plan and the shuffle of an ingest alone, for any number of images.

    python -m benchmarks.plan --images 14197122 --classes 21841

The defaults are the counts of the whole ImageNet (21k), whose names have the form of these. No
image is read or written; the plan takes about 200 bytes an image in `--folder`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator

from benchmarks.imagenet_counts import Counts, synsets
from preprocessing.ingest_plan import ImageOptions, plan_ingest
from preprocessing.records.schema import ImageClass
from preprocessing.sources import archives
from preprocessing.sources.references import ImageReference, Source

IMAGES, CLASSES = 14_197_122, 21_841
BYTES_PER_IMAGE = 110_000
ARCHIVE = f"/source/{archives.TRAIN_ARCHIVE}"


def main() -> None:
    """Measure, and print one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--classes", type=int, default=CLASSES)
    arguments.add_argument("--folder", help="folder to work in [the temporary folder]")
    options = arguments.parse_args()
    counts = Counts(train=options.images, validation=0, classes=options.classes)
    with tempfile.TemporaryDirectory(prefix="benchmark-plan-", dir=options.folder) as folder:
        started = time.perf_counter()
        plan = plan_ingest(
            listed(counts),
            os.path.join(folder, "plans"),
            num_shards={"train": 0, "validation": 0},
            seed=0,
            image=ImageOptions(),
        )
        seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "images": plan.num_images,
                "classes": len(plan.classes),
                "shards": len(plan.shards),
                "seconds": round(seconds, 1),
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "fingerprint": plan.fingerprint,
            }
        )
    )


def listed(counts: Counts) -> Source:
    """Return a source of which only the listing exists."""
    names = synsets(counts)

    def train() -> Iterator[ImageReference]:
        offset = 0
        for label, (synset, count) in enumerate(
            zip(names, counts.per_class(), strict=True), start=1
        ):
            for number in range(1, count + 1):
                yield ImageReference(
                    key=f"train/{synset}/{synset}_{number}.JPEG",
                    path=ARCHIVE,
                    offset=offset,
                    size=BYTES_PER_IMAGE,
                    label=label,
                    version="1",
                )
                offset += BYTES_PER_IMAGE

    return Source(
        classes=tuple(
            ImageClass(index=index, synset=synset, text=synset)
            for index, synset in enumerate(names, start=1)
        ),
        description={},
        listings={"train": train},
    )


if __name__ == "__main__":
    main()
