"""Where shards are written: Beam runners, local worker processes and a progress bar."""
