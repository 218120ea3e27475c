"""What people watch during a run: progress lines, TensorBoard and its pictures."""
