"""Photos by the million: folders and buckets in, one table of faces per few hundred photos out, resumable."""
