"""What chains and surrounds: command line, demo, export, measurement, registry, publishing."""
