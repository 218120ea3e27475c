"""The input contract: how an image of one's own becomes the input of an exported model."""

from __future__ import annotations

from typing import Any

from pipeline.export.metrics import InputContract
from preprocessing.records.schema import Manifest
from training.config import EvaluationConfig
from training.input.inception import EVAL_CROP_FRACTION, RESIZE_TO_CROP

_CROPS: dict[str, dict[str, Any]] = {
    "inception": {
        "crop": "the centre, crop_fraction of each side, then resize; aspect ratio not kept",
        "crop_fraction": EVAL_CROP_FRACTION,
        "resize": "bilinear without half-pixel centres and antialiasing (TF1 resize_bilinear)",
    },
    "resize_256": {
        "crop": "shorter side to size / crop_fraction, then the central square",
        "crop_fraction": 1 / RESIZE_TO_CROP,
        "resize": "bilinear with antialiasing (TF2 tf.image.resize)",
    },
}


def input_contract(size: int, config: EvaluationConfig, manifest: Manifest) -> InputContract:
    """Return the contract of a model.

    Args:
        size: S, pixels.
        config: How images were prepared where the model was measured.
        manifest: The records, which name the classes.
    """
    return InputContract(
        description=f"An RGB image of {size} x {size}: (pixel - 127.5) / 127.5.",
        shape=(1, size, size, 3),
        color="RGB",
        range=(-1.0, 1.0),
        mean=127.5,
        std=127.5,
        **_CROPS[config.crop],
        jpeg_decoder="accurate DCT" if config.precise else "fast DCT",
        outputs=len(manifest.classes) + 1,
        label_offset=1,
        labels="output 0 is the background; output i is class i, as line i of labels.txt",
    )


def labels(manifest: Manifest) -> bytes:
    """Return the content of `labels.txt`: line i names output i; output 0 is the background."""
    names = ("background", *(image_class.text for image_class in manifest.classes))
    return "".join(f"{name}\n" for name in names).encode()
