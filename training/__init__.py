"""Records to checkpoints: models, optimizer, EMA, the distributed loop, exact evaluation."""
