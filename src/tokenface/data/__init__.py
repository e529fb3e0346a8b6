"""Records and their readers, the synthetic-face generator, shards, augmentation: where training faces come from."""
