"""Skin texture from photos: visible texels, and the fill of the rest."""
