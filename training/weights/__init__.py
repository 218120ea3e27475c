"""Weights from and to other formats: this project's, slim's and Keras'."""

__all__ = [
    "at_hand",
    "content_digest",
    "initial",
    "keras_applications",
    "run_weights",
    "slim_checkpoint",
]
