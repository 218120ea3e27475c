"""The sample: a small real dataset in the form of the ILSVRC2012 archives, with their oddities.

It consists of the 1,797 scans of handwritten digits in scikit-learn (Alpaydin and Kaynak,
"Optical Recognition of Handwritten Digits", UCI 1998): 1,437 to train, 360 held out.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from typing import Any

import numpy as np
from PIL import Image

from preprocessing import storage
from preprocessing.errors import UsageError
from preprocessing.progress import progress_bar
from preprocessing.sources import archives, words

NUM_VALIDATION = 360
SEED = 2018  # seed of the split and of the image sizes
SIDES = (40, 80)  # pixels, smallest and largest image side
MARK = "sample.json"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# These are outside the range of WordNet, so that nobody takes them for ImageNet's.
SYNSETS = tuple(f"n999{digit:05d}" for digit in range(10))


def write_sample(folder: str) -> dict[str, Any]:
    """Write the archives to `folder`, which appears complete or not at all.

    Returns:
        The number of images per split, and the file name of each oddity.

    Raises:
        UsageError: `folder` holds something else.
    """
    mark = os.path.join(folder, MARK)
    if os.path.exists(mark):
        written: dict[str, Any] = storage.read_json(mark)
        return written
    if os.path.isdir(folder) and os.listdir(folder):
        raise UsageError(f"{folder} is not empty and holds no sample; choose another --output")
    partial = f"{folder.rstrip('/')}{storage.PARTIAL}sample"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    try:
        description = _write(partial)
        storage.write_json(os.path.join(partial, MARK), description)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return description


def _write(folder: str) -> dict[str, Any]:
    from sklearn.datasets import load_digits  # takes two seconds, so only when it is needed

    digits = load_digits()
    random = np.random.default_rng(SEED)
    order = random.permutation(len(digits.target))
    sides = random.integers(SIDES[0], SIDES[1], size=(len(order), 2), endpoint=True)
    images = [
        _scan(digits.images[index], *sides[index])
        for index in progress_bar(order, desc="sample", unit=" images")
    ]
    labels = [int(digits.target[index]) for index in order]

    with tarfile.open(os.path.join(folder, archives.VALIDATION_ARCHIVE), "w") as archive:
        for number, image in enumerate(images[:NUM_VALIDATION], start=1):
            _add(archive, f"ILSVRC2012_val_{number:08d}.JPEG", _jpeg(image))
    storage.write_bytes(
        os.path.join(folder, archives.VALIDATION_LABELS),
        "".join(f"{SYNSETS[label]}\n" for label in labels[:NUM_VALIDATION]).encode(),
    )
    storage.write_bytes(
        os.path.join(folder, words.SYNSET_WORDS),
        "".join(f"{s}\t{w}\n" for s, w in zip(SYNSETS, WORDS, strict=True)).encode(),
    )
    train = list(zip(images[NUM_VALIDATION:], labels[NUM_VALIDATION:], strict=True))
    oddities = _write_train(os.path.join(folder, archives.TRAIN_ARCHIVE), train)
    return {"train": len(train), "validation": NUM_VALIDATION, "oddities": oddities}


def _write_train(path: str, images: list[tuple[Image.Image, int]]) -> dict[str, str]:
    """Write the tar of tars, with one of each oddity that was found in the real archive."""
    oddities = {}
    with tarfile.open(path, "w") as archive:
        for digit, synset in enumerate(SYNSETS):
            of_class = [image for image, label in images if label == digit]
            encoded = {f"{synset}_{i}.JPEG": _jpeg(image) for i, image in enumerate(of_class)}
            first = f"{synset}_0.JPEG"
            if digit == 0:
                encoded[first] = _encode(of_class[0], "PNG")
                oddities["PNG named .JPEG"] = first
            elif digit == 1:
                encoded[first] = _encode(of_class[0].convert("CMYK"), "JPEG", quality=95)
                oddities["CMYK JPEG"] = first
            elif digit == 2:
                encoded[first] = _encode(of_class[0].convert("L"), "JPEG", quality=95)
                oddities["grayscale JPEG"] = first
            elif digit == 3:
                truncated = f"{synset}_{len(of_class)}.JPEG"
                encoded[truncated] = encoded[first][: len(encoded[first]) // 2]
                oddities["truncated JPEG"] = truncated
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as class_archive:
                for name, content in encoded.items():
                    _add(class_archive, name, content)
            _add(archive, f"{synset}.tar", inner.getvalue())
    return oddities


def _scan(pixels: np.ndarray, height: int, width: int) -> Image.Image:
    """Return an 8x8 scan with 17 levels as an RGB image of `height` x `width` pixels."""
    levels = np.round(pixels * (255 / 16)).astype(np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")


def _jpeg(image: Image.Image) -> bytes:
    return _encode(image, "JPEG", quality=95)


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
