"""ILSVRC2012 archives of any number of different JPEGs, generated from a few images."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

from preprocessing.sources import archives

NUM_PIXEL_IMAGES = 64  # different pixels; further images repeat them with another comment
IMAGES_PER_CLASS = 200


def photograph(rng: np.random.Generator, width: int, height: int, quality: int) -> bytes:
    """Return a JPEG like a photograph: its power falls with the square of the frequency."""
    vertical = np.fft.fftfreq(height)[:, None]
    horizontal = np.fft.rfftfreq(width)[None, :]
    falling = 1 / np.maximum(np.hypot(vertical, horizontal), 1 / width)
    channels = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.normal(size=(height, width)))
        plane = np.fft.irfft2(noise * falling, s=(height, width))
        channels.append((plane - plane.mean()) / plane.std() * 48 + 128)
    shared = np.stack(channels, axis=-1) * 0.3 + channels[0][:, :, None] * 0.7
    pixels = Image.fromarray(np.clip(shared, 0, 255).astype(np.uint8))
    encoded = io.BytesIO()
    pixels.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def numbered(jpeg: bytes, number: int) -> bytes:
    """Return the same picture with its number in a comment, so that no two files are equal."""
    comment = b"%012d" % number
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + jpeg[2:]


def write_archives(folder: str, num_images: int, *, width: int, height: int, quality: int) -> None:
    """Write `num_images` training and 100 validation images as the official archives."""
    os.makedirs(folder)
    rng = np.random.default_rng(2018)
    photographs = [photograph(rng, width, height, quality) for _ in range(NUM_PIXEL_IMAGES)]

    def images(first: int, count: int) -> Iterator[bytes]:
        for number in range(first, first + count):
            yield numbered(photographs[number % NUM_PIXEL_IMAGES], number)

    synsets = [f"n{99000000 + index:08d}" for index in range(-(-num_images // IMAGES_PER_CLASS))]
    with tarfile.open(os.path.join(folder, archives.TRAIN_ARCHIVE), "w") as train:
        for index, synset in enumerate(synsets):
            first = index * IMAGES_PER_CLASS
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as class_archive:
                count = min(IMAGES_PER_CLASS, num_images - first)
                for number, jpeg in enumerate(images(first, count)):
                    add(class_archive, f"{synset}_{number}.JPEG", jpeg)
            add(train, f"{synset}.tar", inner.getvalue())
    with tarfile.open(os.path.join(folder, archives.VALIDATION_ARCHIVE), "w") as validation:
        for number, jpeg in enumerate(images(num_images, 100), start=1):
            add(validation, f"ILSVRC2012_val_{number:08d}.JPEG", jpeg)
    with open(os.path.join(folder, archives.VALIDATION_LABELS), "w") as labels:
        labels.writelines(f"{synsets[number % len(synsets)]}\n" for number in range(100))


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file with the given content to `archive`."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
