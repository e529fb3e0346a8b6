"""Expression transfer from source to target, and conversion between head models."""
