"""Deferred shading: every covered pixel gets its colour from interpolated attributes, in one pass over all pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.data.noise import LAYERS, sample_noise
from tokenface.data.scene.lighting import GAMMA, Light, lamp_light, sky_light
from tokenface.data.scene.paint import CHANNELS, SIZE, Complexion
from tokenface.data.scene.parts import Look

FRACTAL, FINE, COARSE, GRAIN = (LAYERS.index(n) for n in ("fractal", "fractal_fine", "fractal_coarse", "grain"))
STRANDS, SPOTS = LAYERS.index("strands_fine"), LAYERS.index("spots")
TEETH, TONGUE = (0.80, 0.74, 0.64), (0.55, 0.25, 0.24)


@dataclass(frozen=True)
class Pixels:
    """N covered pixels of a batch. rows: [N] picture.  normals: [N, 3] camera space, facing the viewer.
    behind: [N] bool, the surface's inner side.  open_sky, lit: [N] share of the sky and of the key lamp that arrives."""

    rows: Tensor
    normals: Tensor
    behind: Tensor
    open_sky: Tensor
    lit: Tensor


def head_albedo(
    pixels: Pixels,
    person: Complexion,
    hair_colour: Tensor,
    cropped: Tensor,
    face_map: Tensor,
    coordinates: Tensor,
    eye: Tensor,
    inside: Tensor,
    off_axis: Tensor,
    base: Tensor | None,
    bank: Tensor,
) -> tuple[Tensor, Tensor]:
    """sRGB skin, lips, eyes, mouth and what is painted on them.

    Args:
        person: one row per picture.  hair_colour: [B, 3].  cropped: [B] how much the scalp shows hair paint.
        face_map: [SIZE·SIZE, C] masks.  coordinates: [N, 2] on the face map.  eye, inside: [N] shares.
        off_axis: [N] angle between the eyeball's point and its axis, radians (heads without albedo).
        base: [N, 3] the head model's albedo, or None.  bank: noise.
    Returns:
        [N, 3] albedo and [N] gloss.
    """
    r = pixels.rows
    texel = (coordinates * SIZE).long().clamp(0, SIZE - 1)
    masks = dict(zip(CHANNELS, face_map[texel[:, 1] * SIZE + texel[:, 0]].unbind(1), strict=True))
    place = coordinates + person.offset[r]
    fine = sample_noise(bank, torch.full_like(r, FINE), place * 3.1)
    coarse = sample_noise(bank, torch.full_like(r, FRACTAL), place * 1.3)
    grain = sample_noise(bank, torch.full_like(r, GRAIN), place * 2.3)

    def toward(colour: Tensor, target: Tensor, amount: Tensor) -> Tensor:
        return torch.lerp(colour, target, amount.clamp(0, 1)[:, None])

    skin = person.tone[r] if base is None else base
    mottled = 1 + (person.mottling[r] * (0.6 * coarse + 0.5 * fine))[:, None] * skin.new_tensor([0.8, 1.1, 1.1])
    skin = skin * mottled
    blush = skin * skin.new_tensor([1.03, 0.72, 0.74])
    skin = toward(skin, blush, masks["cheeks"] * person.blush[r] + 0.25 * person.blush[r] * masks["oily"])
    skin = toward(skin, skin * 0.72, masks["under_eyes"] * person.under_eyes[r] * (1 - masks["lids"]))
    spots = (sample_noise(bank, torch.full_like(r, SPOTS), place * 2.7) > 1).float()
    skin = toward(skin, skin * 0.72, spots * person.freckles[r] * (0.3 + masks["cheeks"]))
    skin = toward(skin, person.shadow[r], masks["lids"] * person.eye_shadow[r])
    skin = toward(skin, skin * 0.2, masks["lash"] * person.liner[r] * 0.9)
    bare = person.lips[r]
    skin = toward(skin, bare, masks["lips"] * ((0.75 + 0.25 * person.lipstick[r]) if base is None else person.lipstick[r]))
    hair = hair_colour[r]
    bristle = (0.75 + 0.3 * grain).clamp(0, 1.1)
    brow_colour = hair * 0.55 + 0.1 * skin
    strokes = (0.8 + 0.25 * sample_noise(bank, torch.full_like(r, STRANDS), place * 2.0)).clamp(0.3, 1)
    skin = toward(skin, brow_colour, masks["brows"] * strokes * person.brow_strength[r] * (1.0 if base is None else 0.5))
    growth = masks["beard"] * person.stubble[r] + masks["moustache"] * person.moustache[r] * (1 - masks["lips"])
    skin = toward(skin, hair * 0.6 + skin * 0.12, growth * bristle)
    skin = toward(skin, hair * 0.7 + 0.08 * skin, masks["scalp"] * cropped[r] * bristle)

    if base is None:
        sclera = torch.tensor([0.82, 0.79, 0.76], device=skin.device) * (1 - 0.15 * (off_axis[:, None] - 0.6).clamp(0, 1))
        ring = ((0.47 - off_axis) * 14).clamp(0, 1)
        pupil = ((0.2 - off_axis) * 20).clamp(0, 1)
        iris = person.iris[r] * (0.7 + 0.6 * (off_axis[:, None] / 0.45).clamp(0, 1) ** 2)
        ball = toward(toward(sclera, iris, ring), torch.full_like(sclera, 0.015), pupil)
    else:
        ball = base
    skin = torch.lerp(skin, ball, eye[:, None])
    if base is None:
        teeth = skin.new_tensor(TEETH).expand_as(skin)
        skin = toward(skin, teeth, inside)
    gloss = (0.35 + 0.65 * masks["oily"] + 0.9 * masks["lips"] * person.lipstick[r]) * (1 - 0.8 * growth)
    gloss = torch.lerp(gloss.clamp(0, 2), torch.full_like(gloss, 3.0), eye)
    return skin.clamp(0, 1), gloss


def bumpy_normals(pixels: Pixels, coordinates: Tensor, person: Complexion, bank: Tensor, amount: float = 0.1) -> Tensor:
    """Normals tilted by two octaves of noise: pores, wrinkles, unevenness of the skin."""
    r = pixels.rows
    place = coordinates + person.offset[r]
    tilt = [sample_noise(bank, torch.full_like(r, layer), place * f) for layer, f in ((COARSE, 2.1), (FRACTAL, 1.9))]
    fine = sample_noise(bank, torch.full_like(r, FINE), place * 5.3)
    strength = amount * (0.15 + person.relief[r])
    bump = torch.stack([tilt[0] + 0.5 * fine, tilt[1] - 0.5 * fine, torch.zeros_like(fine)], dim=-1)
    return F.normalize(pixels.normals + strength[:, None] * bump, dim=-1)


def look_albedo(looks: Look, part: Tensor, rows: Tensor, coordinates: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """sRGB [N, 3] of the parts' two-coloured textures, and the texture's value [N]."""
    at = (rows, part)
    noise = sample_noise(bank, looks.layer[at], coordinates * looks.frequency[at] + 0.37 * rows[:, None])
    mix = (looks.contrast[at] * (0.5 + 0.5 * noise)).clamp(0, 1)
    return torch.lerp(looks.colour[at], looks.second[at], mix[:, None]), noise


def illuminate(
    albedo: Tensor,
    gloss: Tensor,
    sharpness: Tensor,
    pixels: Pixels,
    light: Light,
    factor: Tensor,
    tangents: Tensor | None = None,
    sheen: Tensor | None = None,
) -> Tensor:
    """sRGB albedo under the light → sRGB picture values [N, 3].

    Args:
        gloss: [N] strength and sharpness [N] exponent of highlights.  factor: [B] exposure.
        tangents: [N, 3] camera space, with sheen [N]: highlights across strands (Kajiya and Kay) instead of a lobe.
    """
    r = pixels.rows
    normals = pixels.normals
    shade = torch.lerp(torch.ones_like(pixels.lit), pixels.lit, light.shadow[r])[:, None]
    sky = sky_light(light, normals, r) * pixels.open_sky[:, None]
    key = lamp_light(light, normals, r, 0) * shade
    fill = lamp_light(light, normals, r, 1) * (0.4 + 0.6 * pixels.open_sky[:, None])
    diffuse = sky + key + fill
    highlight = torch.zeros_like(diffuse)
    viewer = normals.new_tensor([0.0, 0.0, 1.0])
    for lamp, arrives in ((0, shade), (1, pixels.open_sky[:, None])):
        half = F.normalize(light.direction[:, lamp] + viewer, dim=-1)[r]
        lobe = (normals * half).sum(-1).clamp(min=0)
        if tangents is not None and sheen is not None:
            along = (tangents * half).sum(-1)
            lobe = torch.lerp(lobe, (1 - along * along).clamp(min=0).sqrt(), sheen)
        highlight = highlight + light.colour[r, lamp] * arrives * (lobe**sharpness)[:, None]
    rim = (1 - normals[:, 2].clamp(0, 1)) ** 4 * 0.35
    shine = gloss[:, None] * (highlight + rim[:, None] * sky)
    linear = (albedo.clamp(min=1e-3) ** GAMMA * diffuse + 0.14 * shine) * factor[r, None]
    shoulder = 0.75 + 0.25 * (1 - torch.exp(-(linear - 0.75).clamp(min=0) / 0.25))
    return torch.where(linear < 0.75, linear, shoulder).clamp(min=1e-5) ** (1 / GAMMA)
