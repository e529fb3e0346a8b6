"""Photos to faces to files."""
