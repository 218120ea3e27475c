"""The real control plane on this machine, and nodes whose pods are real processes."""
