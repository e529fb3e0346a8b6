"""Faces of one head model in the words of another: FLAME, OpenHead, ICT-FaceKit."""
