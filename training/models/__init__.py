"""Model families: the published variants, their layouts and the networks built from them."""

__all__ = [
    "architecture",
    "families",
    "layout",
    "mobilenet",
    "model_family",
    "variants",
]
