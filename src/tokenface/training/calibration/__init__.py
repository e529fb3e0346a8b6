"""Fitting and measuring of a calibrated confidence on rendered faces: `docs/confidence.md`."""
