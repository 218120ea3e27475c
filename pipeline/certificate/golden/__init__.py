"""Figures of the original code, the formulas of their inputs, and the steps that must meet them."""

__all__ = ["check", "figures", "inputs", "training"]
