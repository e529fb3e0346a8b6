"""One module per family of data sets; each finds its items on disk and loads them one by one."""
