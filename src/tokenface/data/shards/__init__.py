"""Shards: records in WebDataset-compatible tar files, with an index that makes order and resuming exact.

The `webdataset` package reads these shards; our own reader exists because training needs what a stream cannot give:
several pictures of a person in one batch, and going on in the middle of an epoch with the very same batches.
"""

from tokenface.data.shards.index import ShardIndex, find_shards
from tokenface.data.shards.loader import ShardLoader
from tokenface.data.shards.members import decode_record, encode_record
from tokenface.data.shards.writer import write_shard

__all__ = ["ShardIndex", "ShardLoader", "decode_record", "encode_record", "find_shards", "write_shard"]
