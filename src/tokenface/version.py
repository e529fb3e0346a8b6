"""Version of the software, named in results and exported files."""

__version__ = "0.1.0"
