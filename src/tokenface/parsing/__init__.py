"""Face parsing: what each pixel of a picture shows."""
