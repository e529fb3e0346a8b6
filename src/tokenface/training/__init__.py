"""Training: configuration, objective, loop, run folder, companion models."""
