"""Runs over many inputs that go on where they were stopped: photos, clips, transfer, conversion, tables."""
