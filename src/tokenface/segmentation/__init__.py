"""What the pixels of a face's photo show: skin, hair, things in front, eyes, mouth, background."""
