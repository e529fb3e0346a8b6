"""Data set readers, one module per family: discovery of items on disk, loading one by one."""
