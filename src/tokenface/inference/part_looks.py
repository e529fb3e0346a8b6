"""How eyes, teeth and tongue look: small textures, painted from a few numbers, and the roughness of wet surfaces."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tokenface.formats.rig import PartMaterial
from tokenface.head.model import LEFT_EYE, HeadModel
from tokenface.head.parts import IRIS

EYE_SIZE, MOUTH_SIZE = 256, 128
SCLERA = (236, 229, 222)
VEINS = (214, 160, 146)
PUPIL_SHARE = 0.36
"""Radius of the pupil over the iris's, in a lit room."""
EYE_ROUGHNESS, TEETH_ROUGHNESS, TONGUE_ROUGHNESS = 0.06, 0.28, 0.4
TOOTH_ROOT, TOOTH_EDGE, GUM, TONGUE_BACK, TONGUE_TIP = (
    np.array(colour) for colour in ((226, 208, 176), (238, 232, 218), (196, 106, 108), (150, 66, 70), (202, 112, 114))
)


def eye_material(iris: np.ndarray) -> PartMaterial:
    """A wet eye. iris: [3] uint8 sRGB, its mean colour."""
    return PartMaterial("eyes", _eye(tuple(int(value) for value in iris)), EYE_ROUGHNESS)


@lru_cache(maxsize=1)
def teeth_material() -> PartMaterial:
    """Crowns in the left half of the upper rows, gum in the right half."""
    return PartMaterial("teeth", _mouth(), TEETH_ROUGHNESS)


@lru_cache(maxsize=1)
def tongue_material() -> PartMaterial:
    """The lower half of the same picture."""
    return PartMaterial("tongue", _mouth(), TONGUE_ROUGHNESS)


def iris_of_albedo(head: HeadModel, albedo: np.ndarray) -> np.ndarray:
    """[3] uint8 sRGB: the head model's texture halfway between pupil and rim. albedo: [R, R, 3] uint8."""
    data = head.data
    eye = data.regions["left_eyeball"]
    away = data.template[eye] - data.joint_template[LEFT_EYE]
    angles = np.degrees(np.arccos((away[:, 2] / np.linalg.norm(away, axis=1)).clip(-1, 1)))
    # the corners of the texture's coordinates there; vertices of an eye are few, so the ring is a broad one
    used = np.isin(data.faces, eye[angles < 1.2 * IRIS])
    places = data.uv[data.uv_faces[used]]
    size = len(albedo)
    column = (places[:, 0] * size).astype(int).clip(0, size - 1)
    row = ((1 - places[:, 1]) * size).astype(int).clip(0, size - 1)
    return np.median(albedo[row, column], axis=0).astype(np.uint8)


@lru_cache(maxsize=16)
def _eye(iris: tuple[int, int, int]) -> np.ndarray:
    """[R, R, 3] uint8; the distance from the middle is half the root of the angle to the axis over π."""
    centres = (np.arange(EYE_SIZE) + 0.5) / EYE_SIZE - 0.5
    x, y = np.meshgrid(centres, -centres)
    angle = np.degrees(np.pi * (2 * np.hypot(x, y)) ** 2)
    turn = np.arctan2(y, x)
    share = angle / IRIS
    # fibres: a few waves around, of fixed phase, stronger towards the pupil's rim
    waves = sum(np.sin(count * turn + 1.7 * count + 3 * share) / count**0.5 for count in (7, 13, 23, 41))
    fibres = 1 + 0.07 * waves * np.clip(1.15 - share, 0, 1)
    ring = 1 - 0.55 * _step(share, 0.80, 1.0)  # the dark limbus
    glow = 1 + 0.25 * (1 - _step(share, 0.40, 0.62))  # lighter round the pupil
    colour = np.array(iris, float) * (fibres * ring * glow)[..., None]
    colour = colour * _step(share, PUPIL_SHARE - 0.05, PUPIL_SHARE + 0.05)[..., None] + 8
    reddening = (0.75 * _step(angle, 45, 95))[..., None]
    white = np.array(SCLERA) * (1 - reddening) + np.array(VEINS) * reddening
    edge = _step(share, 0.95, 1.08)[..., None]
    return (colour * (1 - edge) + white * edge).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _mouth() -> np.ndarray:
    half = MOUTH_SIZE // 2
    down = np.linspace(1, 0, half)[:, None, None]  # v falls with the rows
    crown = np.broadcast_to(TOOTH_ROOT + (TOOTH_EDGE - TOOTH_ROOT) * down, (half, half, 3))
    gum = np.broadcast_to(GUM.astype(float), (half, half, 3))
    grain = np.random.default_rng(0).normal(size=(half, MOUTH_SIZE, 1)) * 5
    tongue = np.broadcast_to(TONGUE_BACK + (TONGUE_TIP - TONGUE_BACK) * down, (half, MOUTH_SIZE, 3)) + grain
    return np.vstack([np.hstack([crown, gum]), tongue]).clip(0, 255).astype(np.uint8)


def _step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
