"""Training images as a recipe shows them to the network, for the contact sheet of `inspect`."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from pipeline.inspection.contact_sheet import Picture
from preprocessing.records import schema
from training.config import RunConfig
from training.input.inception import train_view

BOXES = (schema.BBOX_XMIN, schema.BBOX_YMIN, schema.BBOX_XMAX, schema.BBOX_YMAX)


def augmented(pictures: list[Picture], config: RunConfig, resolution: int) -> list[Picture]:
    """Return the same records with one random view each, as in the first epoch, without boxes.

    Args:
        pictures: Pictures of training records.
        config: The config whose seed and augmentation are used.
        resolution: Side of the views in pixels.
    """
    views = []
    for number, picture in enumerate(pictures):
        try:
            view = train_view(
                picture.features[schema.ENCODED][0],
                config.augmentation,
                resolution,
                [config.seed, number],
            )
        except tf.errors.InvalidArgumentError:
            views.append(picture)  # cannot be decoded, which its tile says
            continue
        pixels = tf.image.convert_image_dtype(view / 2 + 0.5, tf.uint8, saturate=True)
        changed = {
            **{name: [] for name in BOXES},
            schema.ENCODED: [tf.io.encode_png(pixels).numpy()],
            schema.HEIGHT: [resolution],
            schema.WIDTH: [resolution],
        }
        views.append(dataclasses.replace(picture, features={**picture.features, **changed}))
    return views
