"""Refinement of predictions on the face mesh's points and the photo's pixels."""
