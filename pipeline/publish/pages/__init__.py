"""Pages about published models: tables, plots, model cards and the HTML report."""

__all__ = ["accuracy_table", "html_report", "templates", "terminal"]
