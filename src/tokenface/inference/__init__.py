"""Inference: photos to faces to files."""
