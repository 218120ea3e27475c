"""The cost of an export: latency, memory and time per operator, on this machine and a phone."""

__all__ = ["adb", "measurement"]
