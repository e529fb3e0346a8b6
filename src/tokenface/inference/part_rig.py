"""Eyes, teeth and tongue: meshes of the rig, their small textures and the roughness of wet surfaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np

from tokenface.formats.rig import PartMaterial, RigPart
from tokenface.geometry.axis_angle import rotation_matrix
from tokenface.geometry.smoothstep import smoothstep
from tokenface.head.arrays import AnyHead
from tokenface.head.data import JOINT_NAMES, LEFT_EYE
from tokenface.head.parts import IRIS, TONGUE, HeadParts, PartShape, head_parts
from tokenface.inference.expressions import JAW_TURNS

EYE_SIZE, MOUTH_SIZE = 256, 128
SCLERA = (236, 229, 222)
"""The white of an eye under white light, which photos are compared with."""
SHADED = (212, 203, 196)
"""The same behind lids and lashes, which shade it everywhere: players without ambient occlusion show it glaring."""
CORNER_SHADE = 0.3
"""What the corners, far from the iris, lose of that."""
VEINS = (214, 160, 146)
PUPIL_SHARE = 0.36
"""Radius of the pupil over the iris's, in a lit room."""
EYE_ROUGHNESS, TEETH_ROUGHNESS, TONGUE_ROUGHNESS = 0.06, 0.28, 0.4
TOOTH_ROOT, TOOTH_EDGE, GUM, TONGUE_BACK, TONGUE_TIP = (
    np.array(colour) for colour in ((214, 196, 166), (228, 221, 207), (186, 100, 102), (150, 66, 70), (196, 108, 110))
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


def iris_of_albedo(head: AnyHead, albedo: np.ndarray) -> np.ndarray:
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
    ring = 1 - 0.55 * smoothstep(share, 0.80, 1.0)  # the dark limbus
    glow = 1 + 0.25 * (1 - smoothstep(share, 0.40, 0.62))  # lighter round the pupil
    colour = np.array(iris, float) * (fibres * ring * glow)[..., None]
    colour = colour * smoothstep(share, PUPIL_SHARE - 0.05, PUPIL_SHARE + 0.05)[..., None] + 8
    reddening = (0.75 * smoothstep(angle, 45, 95))[..., None]
    shade = (1 - CORNER_SHADE * smoothstep(angle, 22, 62))[..., None]
    white = np.array(SHADED) * shade * (1 - reddening) + np.array(VEINS) * reddening
    edge = smoothstep(share, 0.95, 1.08)[..., None]
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


FRONT, BACK = 0.85, 0.12
"""Light left on the front teeth and at the throat, linear."""
DARKENING = (0.002, 0.038)
"""Metres behind the foremost point of a part, between which that falls."""
LEAST = 2e-4
"""Metres: a part has no morph target for actions that move it less."""

_parts_of: WeakKeyDictionary[AnyHead, HeadParts | None] = WeakKeyDictionary()


def parts_of(head: AnyHead) -> HeadParts | None:
    """The parts that go with a head model; None without any."""
    if head not in _parts_of:
        _parts_of[head] = head_parts(head.data)
    return _parts_of[head]


def rig_parts(
    head: AnyHead, parts: HeadParts, rest: np.ndarray, joints: np.ndarray, weights: np.ndarray, iris: np.ndarray
) -> tuple[RigPart, ...]:
    """The parts on a person's neutral head.

    Args:
        rest: [V, 3] neutral head, metres.  joints: [J, 3] at rest.
        weights: [E] of the head model's expressions, as the file shows them.
        iris: [3] uint8 sRGB.
    """
    materials: dict[str, Callable] = {TONGUE: tongue_material, "upper_teeth": teeth_material}
    materials |= {"lower_teeth": teeth_material, "left_eye": lambda: eye_material(iris)}
    materials["right_eye"] = materials["left_eye"]
    return tuple(_part(head, parts, shape, rest, joints, weights, materials[shape.name]()) for shape in parts.shapes)


def _part(head, parts, shape: PartShape, rest, joints, weights, material) -> RigPart:
    data = head.data
    place = shape.follow @ rest[shape.source].astype(np.float64)
    joint = int(np.argmax(data.skinning_weights[shape.source].sum(axis=0)))
    names: list[str] = []
    morphs: list[np.ndarray] = []
    shown: list[float] = []
    fallbacks: set[str] = set()

    def keep(name: str, moves: np.ndarray, weight: float) -> None:
        if np.abs(moves).max() > LEAST:
            names.append(name)
            morphs.append(moves)
            shown.append(weight)

    for number, name in enumerate(head.expression_names):
        moves = shape.follow @ data.expression_basis[number][shape.source].astype(np.float64)
        turn = _eye_turn(head, number, joint)
        if turn is not None:
            fallbacks.add(name)
            moves = _turned(place, joints[joint], turn)
        keep(name, moves, 0.0 if turn is not None else float(weights[number]))
    if JOINT_NAMES[joint] == "jaw":
        for name, jaw in JAW_TURNS.items():
            if name not in head.expression_names:
                fallbacks.add(name)
                keep(name, _turned(place, joints[joint], np.array(jaw)), 0.0)
    if shape.name == TONGUE:
        keep("tongueOut", parts.tongue_out[shape.source].astype(np.float64), 0.0)
    skinning = np.zeros((len(place), len(JOINT_NAMES)), np.float32)
    skinning[:, joint] = 1  # teeth, eyes and tongue turn with one bone
    return RigPart(
        name=shape.name,
        rest=place.astype(np.float32),
        faces=shape.faces,
        uv=shape.uv,
        skinning_weights=skinning,
        morph_names=tuple(names),
        morphs=np.array(morphs, np.float32).reshape(len(names), len(place), 3),
        morph_weights=np.array(shown, np.float32),
        fallbacks=frozenset(fallbacks & set(names)),
        material=material,
        shade=_depth_shade(shape),
    )


def _eye_turn(head: AnyHead, action: int, joint: int) -> np.ndarray | None:
    """[3] axis-angle of an eye's joint at weight 1 of the action; None for what does not turn it."""
    side = {"left_eye": 0, "right_eye": 1}.get(JOINT_NAMES[joint])
    if side is None or head.data.eye_drive is None:
        return None
    turn = np.asarray(head.data.eye_drive[action, side], np.float64)
    return turn if np.abs(turn).max() > 1e-6 else None


def _depth_shade(shape: PartShape) -> np.ndarray | None:
    """[N] of `RigPart.shade`: what lies deep in the mouth is dark, in players without ambient occlusion too."""
    if shape.name not in (TONGUE, "upper_teeth", "lower_teeth"):
        return None
    deep = shape.vertices[:, 2].max() - shape.vertices[:, 2]
    return FRONT + (BACK - FRONT) * smoothstep(deep, *DARKENING)


def _turned(place: np.ndarray, joint: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """[N, 3]: straight way to where a rotation about a joint takes each point."""
    about = place - joint.astype(np.float64)
    return about @ rotation_matrix(turn).T - about
