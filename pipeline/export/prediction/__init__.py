"""Prediction: exported models classify images of one's own."""

__all__ = ["classifier", "opening"]
