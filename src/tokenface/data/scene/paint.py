"""Skin paint placed by landmarks, for any head model: lips, brows, beard, eye shadow, moles.

Heads that come with an albedo basis get only what varies on top of it (make-up, stubble, freckles); heads without one
get a whole skin, lips, brows and eyes from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.draw import Draw
from tokenface.data.scene.anatomy import Anatomy

CHANNELS = ("lips", "brows", "beard", "moustache", "cheeks", "lids", "lash", "scalp", "oily", "under_eyes", "face")
SIZE = 384
SPAN = math.radians(110)
"""The map covers azimuths of ± this angle around the vertical axis through the skull."""

SKIN_TONES = torch.tensor(
    [
        [0.94, 0.78, 0.70], [0.92, 0.73, 0.62], [0.88, 0.67, 0.53], [0.82, 0.60, 0.45], [0.74, 0.52, 0.37],
        [0.64, 0.43, 0.30], [0.52, 0.34, 0.23], [0.42, 0.26, 0.18], [0.32, 0.20, 0.14], [0.24, 0.155, 0.115],
    ]
)  # fmt: skip
IRIS = torch.tensor(
    [
        [0.16, 0.09, 0.05],
        [0.28, 0.17, 0.09],
        [0.35, 0.3, 0.16],
        [0.3, 0.4, 0.33],
        [0.33, 0.45, 0.58],
        [0.42, 0.45, 0.48],
    ]
)
LIPSTICKS = torch.tensor([[0.7, 0.1, 0.15], [0.8, 0.4, 0.4], [0.5, 0.12, 0.2], [0.75, 0.3, 0.35]])


class FaceMap:
    """Masks [C, SIZE, SIZE] over (azimuth, height) of the mean face, and the place of every vertex on them."""

    def __init__(self, anatomy: Anatomy, template: Tensor):
        marks = anatomy.landmarks
        self.top = float(marks[27, 1] + 0.11 * anatomy.unit)
        self.bottom = float(marks[8, 1] - 0.06 * anatomy.unit)
        self.axis = float(anatomy.skull[2])
        self.masks = torch.from_numpy(self._draw(anatomy))
        self.coordinates = self.place(template)  # [V, 2] in [0, 1], u along azimuth, v downwards

    def place(self, points: Tensor) -> Tensor:
        azimuth = torch.atan2(points[..., 0], points[..., 2] - self.axis)
        u = (azimuth / SPAN + 1) / 2
        v = (self.top - points[..., 1]) / (self.top - self.bottom)
        return torch.stack([u, v], dim=-1).clamp(-0.2, 1.2)

    def _draw(self, anatomy: Anatomy) -> np.ndarray:
        p = (self.place(anatomy.landmarks).numpy() * SIZE).astype(np.float64)
        iod = float(np.linalg.norm(p[45] - p[36]))
        masks: dict[str, np.ndarray] = {name: np.zeros((SIZE, SIZE), np.float32) for name in CHANNELS}

        def fill(name: str, points: np.ndarray, value: float = 1.0) -> None:
            cv2.fillPoly(masks[name], [np.rint(points * 16).astype(np.int32)], value, lineType=cv2.LINE_AA, shift=4)

        def stroke(name: str, points: np.ndarray, widths: np.ndarray) -> None:
            fine = np.linspace(0, len(points) - 1, 40)
            for f in fine:
                i = min(int(f), len(points) - 2)
                at = points[i] + (points[i + 1] - points[i]) * (f - i)
                radius = np.interp(f, np.arange(len(widths)), widths)
                cv2.circle(masks[name], (int(at[0] * 16), int(at[1] * 16)), int(radius * 16), 1.0, -1, cv2.LINE_AA, 4)

        def shifted(point: np.ndarray, right: float, down: float) -> np.ndarray:
            """A point moved by shares of the outer eye distance, on the picture of the map."""
            return point + np.array([right, down]) * iod

        def blur(name: str, share: float) -> None:
            masks[name] = np.asarray(cv2.GaussianBlur(masks[name], (0, 0), share * iod), np.float32)

        fill("lips", _smooth(p[48:60], 1.03))
        blur("lips", 0.015)
        for brow in (p[17:22], p[22:27][::-1]):
            stroke("brows", brow, np.array([0.012, 0.033, 0.042, 0.05, 0.045]) * iod)
        blur("brows", 0.022)
        for eye in (p[36:42], p[42:48]):
            ring = _smooth(eye, 1.12)
            cv2.polylines(
                masks["lash"], [np.rint(ring * 16).astype(np.int32)], True, 1.0, max(1, int(0.02 * iod)), cv2.LINE_AA, 4
            )
            fill("lids", _smooth(eye, 1.9) - [0, 0.04 * iod])
            fill("under_eyes", shifted(_smooth(eye, 1.5), 0, 0.14))
        blur("lash", 0.012)
        blur("lids", 0.06)
        blur("under_eyes", 0.07)
        # a beard grows below a line from the ears to the mouth's corners, over the jaw and under it
        right_side = [shifted(p[0], -0.1, 0), shifted(p[1], 0.08, 0), (p[3] + p[48]) / 2, shifted(p[48], -0.06, 0)]
        left_side = [shifted(p[54], 0.06, 0), (p[13] + p[54]) / 2, shifted(p[15], -0.08, 0), shifted(p[16], 0.1, 0)]
        # it fades on the neck below the jaw
        neck = [shifted(p[k], 0.09 * (k - 8) / 8, 0.1 + 0.3 * (1 - abs(k - 8) / 8)) for k in (14, 12, 10, 8, 6, 4, 2)]
        fill("beard", np.array([*right_side, shifted(p[57], 0, 0.03), *left_side, *neck]))
        blur("beard", 0.09)
        top = [shifted(p[31], -0.08, 0.02), shifted(p[33], 0, 0.03), shifted(p[35], 0.08, 0.02)]
        fill("moustache", np.array([*top, shifted(p[54], 0.04, 0), p[52], p[51], p[50], shifted(p[48], -0.04, 0)]))
        blur("moustache", 0.03)
        for cheek in (0.5 * (p[2] + p[31]), 0.5 * (p[14] + p[35])):
            cv2.circle(masks["cheeks"], (int(cheek[0]), int(cheek[1])), int(0.22 * iod), 1.0, -1, cv2.LINE_AA)
        blur("cheeks", 0.12)
        hairline = [shifted(p[26], 0.45, -0.1), shifted(p[24], 0.1, -0.55), shifted(p[19], -0.1, -0.55)]
        hairline += [shifted(p[17], -0.45, -0.1)]
        corners = [np.array(c) for c in ((0, 0), (SIZE, 0), (SIZE, p[26][1]))]
        fill("scalp", np.array([*corners, *hairline, np.array([0, p[17][1]])]))
        blur("scalp", 0.06)
        nose = np.concatenate([p[27:31], p[[35, 33, 31]]])
        fill("oily", nose)
        fill("oily", np.array([p[18], p[25], p[25] - [0, 0.5 * iod], p[18] - [0, 0.5 * iod]]))
        blur("oily", 0.08)
        outline = np.concatenate([p[0:17], p[26:16:-1] - [0, 0.5 * iod]])
        fill("face", outline)
        blur("face", 0.02)
        return np.stack([masks[name] for name in CHANNELS]).clip(0, 1)


def _smooth(ring: np.ndarray, grow: float) -> np.ndarray:
    """A closed polygon grown about its centre and rounded by one step of corner cutting."""
    ring = (ring - ring.mean(0)) * grow + ring.mean(0)
    following = np.roll(ring, -1, axis=0)
    return np.stack([0.75 * ring + 0.25 * following, 0.25 * ring + 0.75 * following], axis=1).reshape(-1, 2)


@dataclass(frozen=True)
class Complexion:
    """One per person: [n]. Strengths in [0, 1]; colours sRGB. tone and iris are used by heads without albedo."""

    tone: Tensor
    iris: Tensor
    lips: Tensor
    lipstick: Tensor
    brows: Tensor
    brow_strength: Tensor
    stubble: Tensor
    moustache: Tensor
    blush: Tensor
    shadow: Tensor
    eye_shadow: Tensor
    liner: Tensor
    under_eyes: Tensor
    scalp: Tensor
    freckles: Tensor
    mottling: Tensor
    relief: Tensor
    offset: Tensor


def sample_complexions(draw: Draw, people: int) -> Complexion:
    tone = draw.palette(people, SKIN_TONES, [1.2, 1.6, 1.6, 1.4, 1.1, 0.9, 0.8, 0.7, 0.6, 0.4], jitter=0.015)
    made_up = draw.chance(people, p=0.35)
    bearded = ~made_up & draw.chance(people, p=0.4)
    red = constant([1.0, 0.7, 0.68], device=draw.device)
    lips = tone * torch.lerp(torch.ones_like(tone), red.expand_as(tone), draw.uniform(people, 1, low=0.3, high=1.0))
    lipstick = draw.palette(people, LIPSTICKS, [1.0, 1, 0.7, 1])
    lips = torch.where((made_up & draw.chance(people, p=0.7))[:, None], lipstick, lips)
    return Complexion(
        tone=tone,
        iris=draw.palette(people, IRIS, [2, 2, 0.8, 0.6, 0.9, 0.5], jitter=0.02),
        lips=lips,
        lipstick=made_up * draw.uniform(people, high=0.8),
        brows=tone * draw.uniform(people, 1, low=0.12, high=0.5),
        brow_strength=draw.uniform(people, low=0.3, high=0.95),
        stubble=bearded * draw.uniform(people, high=0.85),
        moustache=(bearded | draw.chance(people, p=0.05)) * draw.uniform(people),
        blush=draw.uniform(people) ** 2 * 0.5,
        shadow=tone * draw.uniform(people, 3, low=0.3, high=0.9),
        eye_shadow=made_up * draw.uniform(people) ** 2 * 0.7,
        liner=draw.uniform(people, low=0.2, high=0.55) + made_up * draw.uniform(people, high=0.4),
        under_eyes=draw.uniform(people) ** 2 * 0.45,
        scalp=draw.uniform(people),
        freckles=draw.chance(people, p=0.15) * draw.uniform(people),
        mottling=draw.uniform(people, low=0.02, high=0.08),
        relief=draw.uniform(people) ** 1.5,
        offset=draw.uniform(people, 2),
    )
