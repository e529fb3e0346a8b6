"""Geometry: cameras, crops, landmarks, rotations, similarities, normals, closest points, Levenberg–Marquardt."""
