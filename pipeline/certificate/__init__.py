"""A certificate of a machine: what it trains, how fast, how exactly and at what cost."""

__all__ = ["certify", "interruption"]
