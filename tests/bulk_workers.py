"""What worker processes of the bulk test import: the shard worker with the stand-in model."""

from __future__ import annotations

import os
import signal
from functools import cached_property
from pathlib import Path

from stand_ins import stand_in_model
from toy_head import toy_head_data

from tokenface.head.model import HeadModel
from tokenface.jobs.bulk.shard import Shard, ShardReport, ShardWorker

DEADLY = 3
"""Number of the shard whose first worker dies, and of the one that kills every worker: this one and the next."""
WISH = "kill.txt"
"""A file beside the photos' folder: its presence means that the deadly shards are deadly."""


class StandInWorker(ShardWorker):
    @cached_property
    def model(self):
        return stand_in_model(HeadModel(toy_head_data()))


class MortalWorker(StandInWorker):
    """Is killed half way through shard DEADLY once, and by shard DEADLY + 1 always."""

    def __call__(self, shard: Shard) -> ShardReport:
        once = Path(self.source.address).parent / WISH
        if shard.number == DEADLY and once.is_file():
            once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if shard.number == DEADLY + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(shard)
