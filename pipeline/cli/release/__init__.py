"""Commands from a run to published models: export, benchmark, publish, fetch and pages."""
