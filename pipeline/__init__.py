"""The pipeline around training: command line, demo, export, measurement, registry, publishing."""
