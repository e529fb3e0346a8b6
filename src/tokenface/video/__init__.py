"""Clips in, tracked faces out: decoding, following people, results that grow on disk, files for animators."""
