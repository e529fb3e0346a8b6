"""The skin of a head from photos: what each texel of the layout shows, and what fills the rest."""
