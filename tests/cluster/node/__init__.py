"""A node whose pods are real processes: what kubelet and containerd do, in a few hundred lines.

Each pod has its own network (and so its own port 2222), names from a DNS server that knows the
cluster's EndpointSlices, and volumes; each container its own file system (read-only, made of this
machine's programs and the repository), process numbers, user, signals and exit code. What is not
here: images, probes, cgroup limits and `kubectl exec`.
"""
