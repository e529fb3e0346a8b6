"""Fitting and measuring a confidence on rendered faces whose truth is known: `docs/confidence.md`."""
