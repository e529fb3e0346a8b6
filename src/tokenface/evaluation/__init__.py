"""How good a model is: geometry against truth, landmarks against annotations."""
