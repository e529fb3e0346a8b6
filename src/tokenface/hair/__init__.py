"""Hair of a head: style and colour from the photo, as a mesh of a cap and cards."""
