"""The version of the software, which results and exported files name."""

__version__ = "0.1.0"
