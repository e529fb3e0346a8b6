"""One person's expression on another person's head (Fig. 1, third row)."""
