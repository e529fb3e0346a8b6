"""Resumable runs over many inputs: photos, clips, transfer, conversion, tables."""
