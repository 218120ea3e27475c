"""Actions: everything that a run does between the calls of the inner loop."""
