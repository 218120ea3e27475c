"""What an export costs: latency, memory and time per operator, here and on a phone."""

__all__ = ["adb", "measurement"]
