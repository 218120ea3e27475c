"""Side-by-side measurements: each prints ratios of what ran in one run on one machine."""
