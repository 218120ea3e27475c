"""Beam's job server for Flink, which the image `worker` carries."""
