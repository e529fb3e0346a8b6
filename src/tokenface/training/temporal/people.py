"""Train, validation and test split of real clips by person."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tokenface.errors import DataError
from tokenface.training.temporal.config import SequenceData

SHARE = 8
"""One person in so many is for validation, and one for the test, where nobody is named."""


class People(NamedTuple):
    training: frozenset[str]
    validation: frozenset[str]
    held_out: frozenset[str]


def split_people(names: Sequence[str], data: SequenceData) -> People:
    """The people of some shards in three groups: as the settings name them, the others drawn by seed.

    Raises:
        DataError: an unknown name, one in both groups, or nobody left to train on.
    """
    for name in (*data.validation_people, *data.held_out_people):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1) or sorted(names)[:1]
            raise DataError(f"nobody named '{name}' has clips in '{data.root}'; did you mean '{near[0]}'?")
    if both := set(data.validation_people) & set(data.held_out_people):
        raise DataError(f"'{min(both)}' stands in data.validation_people and in data.held_out_people; name each once")
    rest = sorted(set(names) - set(data.validation_people) - set(data.held_out_people))
    rest = [rest[i] for i in np.random.default_rng(data.seed).permutation(len(rest))]
    groups = []
    for named in (data.held_out_people, data.validation_people):
        drawn = 0 if named else max(1, len(names) // SHARE)
        groups.append(frozenset(named or rest[:drawn]))
        rest = rest[drawn:]
    if not rest:
        raise DataError(f"'{data.root}' has clips of {len(names)} people, and none is left to train on; add some")
    return People(frozenset(rest), groups[1], groups[0])
