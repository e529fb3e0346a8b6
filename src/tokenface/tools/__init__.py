"""Builders of the shipped files; not imported at run time."""
