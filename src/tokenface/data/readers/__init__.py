"""One module per data set that people have on disk; each yields `PhotoRecord`."""
