"""Many processes that act as one: cluster, rendezvous, collectives, watchdog and failures."""

__all__ = [
    "cluster",
    "collectives",
    "failures",
    "heartbeats",
    "rendezvous",
    "signals",
    "watchdog",
]
