"""Commands that work on a cluster: launch, jobs, logs, stop, resume, watch and doctor."""
