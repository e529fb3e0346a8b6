"""Video: decoding, tracking, results streamed to disk, files for animators."""
