"""The figures of the original TF1 slim code that every installation carries.

Tests compare with more of them, and `tests/data/README.md` says how all of them were made.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import numpy as np

LOGITS = "logits_v2_0.35_96_seed7_pub"
TRAINING = "train_v2_0.35_96_seed11_pub_steps10_batch8x1_classes11_lr0.0045_smooth0.1"


@functools.cache
def read() -> Mapping[str, np.ndarray]:
    """Return the figures by key.

    Returns:
        `LOGITS`: `float32 [2, 1001]`; and `TRAINING/loss`: `float32 [10, 2]`, the mean
        cross-entropy and the L2 term before each update.
    """
    with np.load(os.path.join(os.path.dirname(__file__), "figures.npz")) as stored:
        return {key: stored[key] for key in stored.files}
