"""The paper's losses (Sec. 3.2), each a function of its own with its equation."""
