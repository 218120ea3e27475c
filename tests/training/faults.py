"""Faults under a run, and a run that must survive them, for tests and figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from preprocessing.images import jpeg
from preprocessing.records import tfrecord
from preprocessing.records.records_folder import key_of, read_at
from preprocessing.records.schema import ENCODED, Manifest, read_record_offsets

STEPS = 300
CHECKPOINT_EVERY = 20
BATCH = 8  # of a replica; there are two
SOAK_SECONDS = 800  # a quiet machine needs a quarter of it
STARTUP_SECONDS = 240  # a busy machine takes a minute to import TensorFlow
STEP_SECONDS = 60
GRACE_SECONDS = 20
# TensorFlow's own heartbeats find a lost peer within ten seconds; on a busy machine later.
NOTICE_SECONDS = 60


def arguments(records: Path) -> list[str]:
    """Return the command line of the run."""
    return [
        "train",
        "--variant=shallow_0.35_32",
        "--recipe=demo",
        f"--records={records}",
        f"--set=training.batch_per_replica={BATCH}",
        f"--set=training.total_images={STEPS * BATCH * 2}",
        "--set=loop.steps_per_loop=5",
        f"--set=loop.checkpoint_every_steps={CHECKPOINT_EVERY}",
        f"--set=loop.evaluate_every_steps={STEPS}",
        f"--set=loop.startup_timeout_seconds={STARTUP_SECONDS}",
        f"--set=loop.step_timeout_seconds={STEP_SECONDS}",
        f"--set=loop.grace_seconds={GRACE_SECONDS}",
    ]


def break_records(folder: Path, count: int) -> list[str]:
    """Change one byte of the image in `count` training records, one in each shard."""
    manifest = Manifest.read(str(folder))
    files = [shard.file for shard in manifest.shards["train"]][:count]
    for file in files:
        content = bytearray((folder / file).read_bytes())
        content[300] ^= 1  # within the first record
        (folder / file).write_bytes(content)
    return files


def with_invalid_marker(jpeg_bytes: bytes) -> bytes:
    """Return the image in a JPEG of the same size whose scan has a marker that decoders refuse.

    Header and trailer are sound, so that only decoding tells. The JPEG is progressive, so that
    a decoder reads all scans even for the upper rows.
    """
    packed = io.BytesIO()
    image = Image.open(io.BytesIO(jpeg_bytes))
    image.resize((image.width // 2, image.height // 2)).save(packed, "JPEG", progressive=True)
    content = packed.getvalue()
    scan = jpeg.read_header(content).scan
    place = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4])
    content = content[:place] + b"\xff\xc3" + content[place + 2 :]
    assert len(content) <= len(jpeg_bytes)
    return content[:-2] + bytes(len(jpeg_bytes) - len(content)) + content[-2:]


def break_images(folder: Path, split: str, numbers: Sequence[int]) -> list[str]:
    """Damage the images of some records of a split, and return their keys in that order."""
    manifest = Manifest.read(str(folder))
    shard_index, offsets = read_record_offsets(str(folder), manifest, split)
    keys = []
    for number in numbers:
        file = manifest.shards[split][int(shard_index[number])].file
        with open(folder / file, "r+b") as stream:
            features = read_at(stream, int(offsets[number]), file)
            features[ENCODED] = [with_invalid_marker(features[ENCODED][0])]
            stream.seek(int(offsets[number]))
            stream.write(tfrecord.record(features))
        keys.append(key_of(split, features))
    return keys
