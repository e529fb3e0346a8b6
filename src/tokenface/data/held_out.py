"""Who is kept out of training: drawn once, and the same people when the data grow."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from tokenface.core.configuration import parse_yaml


@dataclass(frozen=True)
class Split:
    """A draw of people.

    people: how many are held out.  seed: of the draw.  known: `digest` of those who were held out before, when there
    may have been fewer people to draw from; they stay.
    """

    people: int
    seed: int = 0
    known: frozenset[str] = frozenset()

    def held_out(self, names: Collection[str]) -> frozenset[str]:
        """The names that are held out.

        Raises:
            ValueError: nobody would be left to train on.
        """
        ordered = sorted(set(names))
        if self.people and self.people >= len(ordered):
            raise ValueError(f"cannot hold {self.people} of {len(ordered)} people out of training")
        drawn = [ordered[i] for i in np.random.default_rng(self.seed).permutation(len(ordered))]
        drawn.sort(key=lambda name: digest(name) not in self.known)
        return frozenset(drawn[: self.people])


def digest(name: str) -> str:
    """A person's name as weights remember it, which tells nobody who it is."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]


def digests(names: Collection[str]) -> list[str]:
    """For files: sorted."""
    return sorted(map(digest, names))


def trained_split(metadata: Mapping[str, Any]) -> Split | None:
    """The draw among photos with landmarks that weights were trained with; None: they saw no such photos.

    Args:
        metadata: of the checkpoint.
    """
    training = metadata.get("training")
    if not isinstance(training, Mapping):
        return None
    try:
        photos = parse_yaml(str(training.get("config", "")))["photos"]
        if photos["tar"] is None:
            return None
        known = frozenset(map(str, training.get("held_out", {}).get("photos", ())))
        return Split(int(photos["held_out_people"]), int(photos["split_seed"]), known)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return None  # of an earlier version
