"""Generated JPEGs for the benchmarks, like ImageNet's: about 500 x 375 pixels and 100 KB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 375, 500  # ImageNet's most frequent size
MEAN_BYTES = 100_000


def make_jpegs(
    count: int, *, height: int = HEIGHT, width: int = WIDTH, seed: int = 0
) -> list[bytes]:
    """Return `count` baseline JPEGs, 4:2:0, with the 1 / f spectrum of natural images."""
    random = np.random.default_rng(seed)
    target = MEAN_BYTES * (height * width) / (HEIGHT * WIDTH)
    return [_of_about(_natural(random, height, width), target) for _ in range(count)]


def _natural(random: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return noise whose amplitude falls with the spatial frequency, gray more than coloured."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 1 / width)

    def layer(strength: float) -> np.ndarray:
        noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * falloff)
        resized = np.zeros((height, width))
        resized[:, : noise.shape[1]] = noise
        return strength * resized / resized.std()

    luminance = layer(50.0)
    channels = [128 + luminance + layer(15.0) for _ in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def _of_about(image: Image.Image, target_bytes: float) -> bytes:
    """Return the encoding whose size is nearest to `target_bytes`, over a range of qualities."""
    encoded = [_encode(image, quality) for quality in range(80, 98, 1)]
    return min(encoded, key=lambda jpeg: abs(len(jpeg) - target_bytes))


def _encode(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return stream.getvalue()
