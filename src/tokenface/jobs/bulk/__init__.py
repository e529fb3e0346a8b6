"""Bulk reconstruction: folders and buckets to tables of faces, resumable."""
