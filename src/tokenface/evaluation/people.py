"""Population of the open benchmark: balanced over ancestry, gender, age and matching skin tones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.arrays import open_arrays
from tokenface.data.draw import Draw
from tokenface.head.model import HeadModel
from tokenface.images.srgb import srgb_to_lab, typology_angle
from tokenface.render.texture import albedo_at

FILE = Path(__file__).with_name("openhead_groups.npz")
"""Made by `scripts/measure_groups.py`."""
SKIN = {"african": (-65.0, 10.0), "asian": (10.0, 55.0), "caucasian": (28.0, 90.0)}
"""Typology angles in degrees that are drawn with an ancestry; the ranges overlap as people's do."""
SKIN_GROUPS = (("dark skin (below 10°)", -91, 10), ("medium skin (10–41°)", 10, 41), ("light skin (above 41°)", 41, 91))
"""Individual typology angle, in the classes of Chardon and others, two and two together."""
TRIES = 200


@dataclass(frozen=True)
class Groups:
    """Groups in one head model's identity space: see `tools.openhead.groups`.

    names: kind → its groups.  means: [A, G, H, S].  narrow: [K, S] orthonormal directions in which people of one group
    spread less than the model's people, by the factors spread [K]; by 1 in all others.
    """

    head_hash: str
    names: dict[str, tuple[str, ...]]
    means: np.ndarray
    narrow: np.ndarray
    spread: np.ndarray

    def of(self, person: int) -> tuple[int, int, int]:
        """Ancestry, gender and age of a person by number: six people have all ancestries with all genders and every
        age twice, eighteen have every combination once."""
        ancestry, gender = person % 3, person // 3 % 2
        return ancestry, gender, (ancestry + gender + person // 6) % 3

    def shape(self, draw: Draw, person: int) -> Tensor:
        """[1, S] somebody of the person's groups."""
        own = draw.normal(1, self.means.shape[-1])
        narrow = torch.from_numpy(self.narrow).float()
        factor = torch.from_numpy(self.spread).float() - 1
        return torch.from_numpy(self.means[self.of(person)]).float() + own + (own @ narrow.T * factor) @ narrow


@dataclass(frozen=True)
class People:
    """shape: [N, S], texture: [N, T] of the benchmark's people.  skin: [N] individual typology angle of the cheeks'
    albedo, degrees, NaN for head models without one.  groups: kind → [N] names; empty where nothing is known."""

    shape: Tensor
    texture: Tensor
    skin: Tensor
    groups: dict[str, list[str]]

    @property
    def beards(self) -> Tensor | None:
        """[N] 1 where the picture may show a beard; None: everywhere, as drawn."""
        if not self.groups:
            return None
        grown = zip(self.groups["gender"], self.groups["age"], strict=True)
        return torch.tensor([float(gender == "male" and age != "child") for gender, age in grown])

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of people of each group."""
        return {kind: dict(sorted(Counter(names).items())) for kind, names in self.groups.items()}


@lru_cache(maxsize=1)
def shipped_groups() -> Groups:
    with open_arrays(FILE) as file:
        names = {kind: tuple(str(name) for name in file[kind]) for kind in ("ancestry", "gender", "age")}
        return Groups(str(file["head_hash"]), names, *(file[name] for name in ("means", "narrow", "spread")))


def draw_people(head: HeadModel, count: int, seed: int) -> People:
    """People that no training has seen; the first of a larger count are the people of a smaller one."""
    known: Groups | None = shipped_groups()
    if known is not None and known.head_hash != head.data.geometry_hash():
        known = None  # other head models' modes carry no labels
    tone = SkinTone(head) if head.data.albedo_basis is not None else None
    shapes, textures = [], []
    groups: dict[str, list[str]] = {kind: [] for kind in known.names} if known else {}
    for person in range(count):
        draw = Draw.seeded(seed * 1000 + person, "cpu")
        wanted = (-91.0, 91.0)
        if known is None:
            shapes.append(draw.normal(1, head.sizes.shape))
        else:
            shapes.append(known.shape(draw, person))
            for (kind, names), place in zip(known.names.items(), known.of(person), strict=True):
                groups[kind].append(names[place])
            wanted = SKIN[groups["ancestry"][-1]]
        textures.append(_texture(draw, head.sizes.texture, tone, wanted))
    texture = torch.cat(textures)
    skin = torch.full((count,), float("nan")) if tone is None else tone(texture)
    return People(torch.cat(shapes), texture, skin, groups)


class SkinTone:
    """Individual typology angle atan((L* − 50) / b*) of albedo coefficients: the darker the skin, the smaller."""

    def __init__(self, head: HeadModel):
        region = head.data.regions.get("cheeks", np.arange(head.vertex_count))
        self.mean, self.modes = albedo_at(head.data, np.flatnonzero(np.isin(head.data.faces, region).all(1)))

    def __call__(self, texture: Tensor) -> Tensor:
        """[N, A] → [N] degrees, of the mean colour of the cheeks."""
        colours = self.mean + np.einsum("na,akc->nkc", texture.numpy().astype(np.float64), self.modes)
        return torch.from_numpy(typology_angle(srgb_to_lab(colours.clip(0, 1).mean(1))))


def _texture(draw: Draw, size: int, tone: SkinTone | None, wanted: tuple[float, float]) -> Tensor:
    """[1, T] drawn again until the skin is in the range."""
    texture = draw.normal(1, size)
    if tone is not None:
        for _ in range(TRIES):
            if wanted[0] <= float(tone(texture)[0]) < wanted[1]:
                break
            texture = draw.normal(1, size)
    return texture
