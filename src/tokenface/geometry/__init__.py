"""Cameras, crops, landmark numbering, rotations, similarities, normals, closest points, Levenberg–Marquardt."""
