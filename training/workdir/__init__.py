"""One run on disk: its record, checkpoints, attempts and lock."""
