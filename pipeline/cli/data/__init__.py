"""Commands that make and look at data: demo, sample, prepare and inspect."""
