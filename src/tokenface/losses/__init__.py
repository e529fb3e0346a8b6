"""Losses of the paper (Sec. 3.2), one function per equation."""
