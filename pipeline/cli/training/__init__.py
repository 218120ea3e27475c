"""Commands around a training run: train, evaluate, plan, diagnose and their servers."""
