"""Hair of a head: style and colour from the photo, as a mesh of a cap and cards."""

from tokenface.hair.photo import Hair, photo_hair

__all__ = ["Hair", "photo_hair"]
