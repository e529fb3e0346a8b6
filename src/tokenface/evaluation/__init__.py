"""Evaluation: geometry against ground truth, landmarks against annotations."""
