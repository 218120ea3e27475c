"""Export formats: how each is written and which runtime checks it."""
