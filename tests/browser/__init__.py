"""A real browser for tests, and what a person would see wrong on a page."""
