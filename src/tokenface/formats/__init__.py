"""Files that other programs read: GLB, OBJ, PLY, JSON."""
