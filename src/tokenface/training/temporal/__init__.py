"""Training of the temporal transformer (stage d) on cached token features of the frozen image model."""
