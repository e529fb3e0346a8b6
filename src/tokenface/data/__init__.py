"""Training data: records and readers, the synthetic-face generator, shards, augmentation."""
