"""Stage (d): the temporal transformer, trained on token features that the frozen image model leaves on disk."""
