"""From an export to a published folder and a registry, and back."""

__all__ = [
    "comparison",
    "download",
    "embedded_registry",
    "gate",
    "passwords",
    "publication",
    "published_index",
    "registry",
]
