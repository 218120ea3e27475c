"""Many processes that act as one: cluster, rendezvous, collectives, watchdog and failures."""
