"""Deferred shading: colour of every covered pixel from interpolated attributes, one pass over the batch.

Pixel quantities are planar, [N] or [3, N], so that per-pixel factors broadcast over contiguous colour planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.noise import LAYERS, sample_noise
from tokenface.data.scene.lighting import Hemisphere, Light
from tokenface.data.scene.paint import CHANNELS, SIZE, Complexion
from tokenface.data.scene.parts import Look

FRACTAL, FINE, COARSE, GRAIN = (LAYERS.index(n) for n in ("fractal", "fractal_fine", "fractal_coarse", "grain"))
TEETH, GUMS = (0.80, 0.74, 0.64), (0.42, 0.18, 0.17)


@dataclass(frozen=True)
class Pixels:
    """N covered pixels of a batch. rows: [N] picture.  normals: [3, N] camera space, facing the viewer.
    open_sky, lit: [N] share of the sky and of the key lamp that arrives.  hemisphere: the batch's light."""

    rows: Tensor
    normals: Tensor
    open_sky: Tensor
    lit: Tensor
    hemisphere: Hemisphere


@dataclass(frozen=True)
class SkinGrain:
    """Noise at the head's pixels, [N] each, from fine to wide; one look-up serves colour and relief."""

    grain: Tensor
    fine: Tensor
    coarse: Tensor
    wide: Tensor

    @staticmethod
    def at(place: Tensor, rows: Tensor, person: Complexion, bank: Tensor) -> SkinGrain:
        """place: [2, N] on the face map; every person's noise is shifted by an own offset."""
        place = place + per_pixel(person.offset, rows)
        layers = ((GRAIN, 2.3), (FINE, 3.1), (FRACTAL, 1.3), (COARSE, 2.1))
        return SkinGrain(*(sample_noise(bank, layer, place * frequency) for layer, frequency in layers))


@dataclass(frozen=True)
class HeadSurface:
    """Head surface at N pixels. place: [2, N] on the face map.  eye, inside, teeth: [N] shares.
    off_axis: [N] radians between the eyeball's point and its axis.  albedo: [3, N] of the head model, or None."""

    place: Tensor
    eye: Tensor
    inside: Tensor
    teeth: Tensor
    off_axis: Tensor
    albedo: Tensor | None


def per_pixel(table: Tensor, rows: Tensor) -> Tensor:
    """Values of pictures at their pixels: [B] → [N], [B, C] → [C, N]."""
    if table.dim() == 1:
        return table.index_select(0, rows)
    return table.T.contiguous().index_select(1, rows)


def unit(vectors: Tensor) -> Tensor:
    """[3, N] scaled to length 1 (much faster than a norm over the first of two dimensions)."""
    x, y, z = vectors
    return vectors * torch.rsqrt(x * x + y * y + z * z + 1e-12)


def head_albedo(
    rows: Tensor,
    where: HeadSurface,
    grain: SkinGrain,
    person: Complexion,
    hair_colour: Tensor,
    cropped: Tensor,
    face_map: Tensor,
) -> tuple[Tensor, Tensor]:
    """sRGB skin, lips, eyes, mouth and what is painted on them.

    Args:
        person: one row per picture.  hair_colour: [B, 3].  cropped: [B] how much the scalp shows hair paint.
        face_map: [C, SIZE·SIZE] masks.
    Returns:
        [3, N] albedo and [N] gloss.
    """
    base = where.albedo
    column, row = (where.place * SIZE).int().clamp(0, SIZE - 1)
    texel = row * SIZE + column
    masks = {name: face_map[i].index_select(0, texel) for i, name in enumerate(CHANNELS)}

    def of(value: Tensor) -> Tensor:
        return per_pixel(value, rows)

    skin = of(person.tone) if base is None else base
    mottled = of(person.mottling) * (0.6 * grain.coarse + 0.5 * grain.fine)
    skin = skin * (1 + mottled * _column(0.8, 1.1, 1.1, skin))
    flush = of(person.blush) * (masks["cheeks"] + 0.25 * masks["oily"])
    skin = skin * (1 + flush * _column(0.03, -0.28, -0.26, skin))
    skin = skin * (1 - 0.28 * masks["under_eyes"] * of(person.under_eyes) * (1 - masks["lids"]))
    freckles = ((grain.fine - 1.2) * 3).clamp(0, 1) * of(person.freckles) * (0.3 + masks["cheeks"])
    skin = skin * (1 - 0.3 * freckles)
    skin = torch.lerp(skin, of(person.shadow), masks["lids"] * of(person.eye_shadow))
    skin = skin * (1 - 0.75 * masks["lash"] * of(person.liner))
    lipstick = of(person.lipstick)
    skin = torch.lerp(skin, of(person.lips), masks["lips"] * (lipstick if base is not None else 0.75 + 0.25 * lipstick))
    hair = of(hair_colour)
    bristle = (0.75 + 0.3 * grain.grain).clamp(0, 1)
    brows = masks["brows"] * (0.8 + 0.2 * grain.grain).clamp(0.3, 1) * of(person.brow_strength)
    skin = torch.lerp(skin, hair * 0.55 + 0.1 * skin, brows if base is None else 0.2 * brows)
    growth = masks["beard"] * of(person.stubble) + masks["moustache"] * of(person.moustache) * (1 - masks["lips"])
    skin = torch.lerp(skin, hair * 0.6 + skin * 0.12, (growth * bristle).clamp(0, 1))
    skin = torch.lerp(
        skin, hair * 0.7 + 0.08 * skin, masks["scalp"] * of(cropped) * (0.9 + 0.12 * grain.grain).clamp(0, 1)
    )
    ball = _eyeball(of(person.iris), where.off_axis) if base is None else base
    skin = torch.lerp(skin, ball, where.eye)
    if base is None:
        mouth = torch.lerp(_column(*GUMS, skin).expand_as(skin), _column(*TEETH, skin).expand_as(skin), where.teeth)
        skin = torch.lerp(skin, mouth, where.inside)
    gloss = (0.35 + 0.65 * masks["oily"] + 0.9 * masks["lips"] * lipstick) * (1 - 0.8 * growth.clamp(max=1))
    return skin.clamp(0, 1), torch.lerp(gloss, torch.full_like(gloss, 3.0), where.eye)


def _column(red: float, green: float, blue: float, like: Tensor) -> Tensor:
    return constant([[red], [green], [blue]], device=like.device)


def _eyeball(iris: Tensor, off_axis: Tensor) -> Tensor:
    """[3, N] sclera, iris and pupil by the angle from the eye's axis."""
    sclera = _column(0.82, 0.79, 0.76, iris) * (1 - 0.15 * (off_axis - 0.6).clamp(0, 1))
    coloured = iris * (0.7 + 0.6 * (off_axis / 0.45).clamp(0, 1) ** 2)
    ball = torch.lerp(sclera, coloured, ((0.47 - off_axis) * 14).clamp(0, 1))
    return ball * (1 - 0.95 * ((0.2 - off_axis) * 20).clamp(0, 1))


def bumpy_normals(normals: Tensor, rows: Tensor, grain: SkinGrain, person: Complexion, amount: float = 0.12) -> Tensor:
    """Normals [3, N] tilted by noise: pores, wrinkles, unevenness of the skin."""
    strength = amount * (0.15 + per_pixel(person.relief, rows))
    x, y, z = normals
    across = strength * (grain.wide + 0.5 * grain.fine)
    along = strength * (grain.coarse - 0.5 * grain.fine)
    return unit(torch.stack([x + across, y + along, z]))


def look_albedo(looks: Look, part: Tensor, rows: Tensor, coordinates: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """sRGB [3, N] of the parts' two-coloured textures (looks: [B, P, ...]), and the texture's value [N]."""
    at = flat_index(looks, part, rows)
    place = coordinates * look_value(looks.frequency, at) + 0.37 * rows
    noise = sample_noise(bank, look_value(looks.layer, at), place)
    mix = (look_value(looks.contrast, at) * (0.5 + 0.5 * noise)).clamp(0, 1)
    return torch.lerp(look_value(looks.colour, at), look_value(looks.second, at), mix), noise


def flat_index(looks: Look, part: Tensor, rows: Tensor) -> Tensor:
    return rows * looks.alpha.shape[1] + part


def look_value(table: Tensor, at: Tensor) -> Tensor:
    """[B, P] or [B, P, C] at flat indices [N] → [N] or [C, N]."""
    return per_pixel(table.flatten(0, 1), at)


def illuminate(
    albedo: Tensor,
    gloss: Tensor,
    wet: Tensor,
    pixels: Pixels,
    light: Light,
    factor: Tensor,
    strands: Tensor | None = None,
    sheen: Tensor | None = None,
) -> Tensor:
    """sRGB albedo [3, N] under the light → sRGB picture values [3, N]; light adds up before the square-root encoding.

    Args:
        gloss: [N] strength of highlights; wet: [N] bool, small sharp ones.  factor: [B] exposure.
        strands: [3, N] camera-space tangents, with sheen [N]: highlights across strands (Kajiya and Kay).
    """
    rows = pixels.rows
    arriving = pixels.hemisphere.at(pixels.normals, rows)
    shade = 1 + per_pixel(light.shadow, rows) * (pixels.lit - 1)
    sky = arriving.sky * pixels.open_sky
    diffuse = sky + arriving.key * shade + arriving.fill * (0.4 + 0.6 * pixels.open_sky)
    lobe = torch.where(wet, arriving.key_glint, arriving.key_lobe)
    if strands is not None and sheen is not None:
        half = F.normalize(light.direction[:, 0] + constant([0.0, 0.0, 1.0], device=rows.device), dim=-1)
        along = (strands * per_pixel(half, rows)).sum(0)
        across = (1 - along * along).clamp(min=0) ** 12
        lobe = torch.lerp(lobe, across, sheen)
    rim = (1 - pixels.normals[2].clamp(0, 1)) ** 4 * 0.35
    highlight = rim * sky + per_pixel(light.colour[:, 0], rows) * (shade * lobe)
    highlight = highlight + per_pixel(light.colour[:, 1], rows) * (pixels.open_sky * arriving.fill_lobe)
    linear = (albedo * albedo * diffuse + (0.17 * gloss) * highlight) * per_pixel(factor, rows)
    over = (linear - 0.75).clamp(min=0)
    return (linear - over + 0.25 * (1 - torch.exp(-4 * over))).clamp(min=1e-5).sqrt()
