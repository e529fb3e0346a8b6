"""Data preparation, data sets to shards: faces, landmarks, visibility, masks, pose, quality, geometry."""
