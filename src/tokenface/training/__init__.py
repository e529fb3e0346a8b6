"""Training: configuration, objective, loop."""
