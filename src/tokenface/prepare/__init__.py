"""From a data set on disk to shards: faces, landmarks, visibility, masks, pose, quality, geometry."""
