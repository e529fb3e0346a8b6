"""Appearance of a person: hair and skin fixed per identity, the rest drawn per image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokenface.data.draw import Draw
from tokenface.data.scene.clothes import Clothes, sample_clothes
from tokenface.data.scene.glasses import Glasses, sample_glasses
from tokenface.data.scene.hair import Hair, sample_hair
from tokenface.data.scene.hats import KINDS, Hat, sample_hats
from tokenface.data.scene.occluders import Occluders, sample_occluders
from tokenface.data.scene.paint import Complexion, sample_complexions


@dataclass(frozen=True)
class Chances:
    """Probability per picture."""

    glasses: float = 0.2
    hat: float = 0.1
    occluder: float = 0.22

    @staticmethod
    def none() -> Chances:
        return Chances(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Person:
    """One row per person (or per picture, once repeated). skin: [n, 3] mean sRGB of the cheeks."""

    hair: Hair
    complexion: Complexion
    skin: Tensor


@dataclass(frozen=True)
class Outfit:
    """One row per picture."""

    hair: Hair
    clothes: Clothes
    glasses: Glasses
    hat: Hat
    occluders: Occluders


def sample_people(draw: Draw, people: int, skin: Tensor | None) -> Person:
    """Args: skin: [n, 3] sRGB of heads that have an albedo; None: skin tones are drawn here."""
    complexion = sample_complexions(draw, people)
    skin = complexion.tone if skin is None else skin
    hair = sample_hair(draw, people, skin.mean(1))
    return Person(hair, replace(complexion, tone=skin), skin)


def sample_outfit(draw: Draw, person: Person, rotation: Tensor, chances: Chances) -> Outfit:
    """Args: person: one row per picture.  rotation: [B, 3, 3] of the heads."""
    batch = rotation.shape[0]
    hat = sample_hats(draw, batch, chances.hat, person.hair.shell.top * person.hair.shown)
    return Outfit(
        hair=_under_hat(person.hair, hat),
        clothes=sample_clothes(draw, rotation, person.skin),
        glasses=sample_glasses(draw, batch, chances.glasses),
        hat=hat,
        occluders=sample_occluders(draw, batch, chances.occluder, person.skin),
    )


def _under_hat(hair: Hair, hat: Hat) -> Hair:
    """Hair that a hat presses flat, and that a scarf or a hood holds in."""
    worn = hat.shown
    cloth = (hat.kind == KINDS.index("scarf")) | (hat.kind == KINDS.index("hood"))
    style = hair.shell

    def at_most(value: Tensor, limit: float, where: Tensor) -> Tensor:
        return torch.where(where, value.clamp(max=limit), value)

    shell = replace(
        style,
        top=at_most(style.top, 0.01, worn),
        side=at_most(at_most(style.side, 0.02, worn), 0.006, cloth),
        back=at_most(at_most(style.back, 0.02, worn), 0.006, cloth),
        hang=at_most(style.hang, 0.0, cloth),
    )
    return replace(hair, shell=shell, bun=at_most(hair.bun, 0.0, worn))
