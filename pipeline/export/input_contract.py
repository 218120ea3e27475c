"""The input contract: how an image of one's own becomes the input of an exported model."""

from __future__ import annotations

import re
from typing import Any, Literal

from pipeline.export.metrics import InputContract
from preprocessing.errors import DataError
from preprocessing.records.schema import Manifest
from training.config import EvaluationConfig
from training.input.inception import EVAL_CROP_FRACTION, RESIZE_TO_CROP

_CROPS: dict[Literal["inception", "resize_256"], dict[str, Any]] = {
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
ACCURATE, FAST = "accurate DCT", "fast DCT"
LABELS_RULE = (
    "output i is named by line i of labels.txt when lines are counted from 0, "
    "which is line i + 1 of an editor"
)
IGNORED = "EXIF orientation is ignored: the pixels are taken as they are stored"
APPLIED = "EXIF orientation is applied: the image is turned upright first"
# Control characters, and the other characters at which some readers end a line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


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
        jpeg_decoder=ACCURATE if config.precise else FAST,
        outputs=len(manifest.classes) + 1,
        label_offset=1,
        labels=f"output 0 is the background; {LABELS_RULE}",
        orientation=APPLIED if manifest.options.get("apply_orientation") else IGNORED,
        quantized="a uint8 file takes the pixels as they are, an int8 file the pixels minus 128",
    )


def evaluation_of(contract: InputContract) -> EvaluationConfig:
    """Return how images are prepared for a model, as its contract says.

    Raises:
        DataError: The contract speaks of another way.
    """
    for crop, rule in _CROPS.items():
        if contract.crop == rule["crop"]:
            return EvaluationConfig(crop=crop, precise=contract.jpeg_decoder == ACCURATE)
    raise DataError(f"this version does not know how to prepare an image by {contract.crop!r:.100}")


def labels(manifest: Manifest) -> bytes:
    """Return the content of `labels.txt`, as `LABELS_RULE` says; output 0 is the background.

    A description's own line breaks and other control characters become spaces.
    """
    names = ("background", *(image_class.text for image_class in manifest.classes))
    return "".join(f"{_CONTROL.sub(' ', name)}\n" for name in names).encode()
