"""One person's expression on another's head, and faces of one head model as faces of another."""
