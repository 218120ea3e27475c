"""Input: the order of records, decoding, augmentation and the services that feed them."""

__all__ = [
    "data",
    "inception",
    "parallelism",
    "records",
    "source",
    "synthetic",
]
