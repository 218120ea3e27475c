"""Side-by-side measurements, each of which prints ratios from one run on one machine."""
