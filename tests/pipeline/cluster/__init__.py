"""Laws of launching and supervising runs; `tests/cluster` has them on a real control plane."""
