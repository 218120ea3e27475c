"""A node with the real kubelet and containerd, whose pods are the real images."""
