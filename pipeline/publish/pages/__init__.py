"""Pages about published models: tables, plots, model cards and the HTML report."""
