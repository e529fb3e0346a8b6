"""Eyes, teeth and tongue of one person as meshes of a rig."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np

from tokenface.formats.rig import RigPart, rotation_matrix
from tokenface.head.arkit import JAW_OPEN_ANGLE, JAW_SIDE_ANGLE
from tokenface.head.data import JOINT_NAMES
from tokenface.head.model import HeadModel
from tokenface.head.parts import TONGUE, HeadParts, PartShape, head_parts
from tokenface.inference.part_looks import eye_material, teeth_material, tongue_material

JAW_TURNS = {
    "jawOpen": (JAW_OPEN_ANGLE, 0.0, 0.0),
    "jawLeft": (0.0, JAW_SIDE_ANGLE, 0.0),
    "jawRight": (0.0, -JAW_SIDE_ANGLE, 0.0),
}
LEAST = 2e-4
"""Metres: a part has no morph target for actions that move it less."""

_parts_of: WeakKeyDictionary[HeadModel, HeadParts | None] = WeakKeyDictionary()


def parts_of(head: HeadModel) -> HeadParts | None:
    """The parts that go with a head model; None without any."""
    if head not in _parts_of:
        _parts_of[head] = head_parts(head.data)
    return _parts_of[head]


def rig_parts(
    head: HeadModel, parts: HeadParts, rest: np.ndarray, joints: np.ndarray, weights: np.ndarray, iris: np.ndarray
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
    )


def _eye_turn(head: HeadModel, action: int, joint: int) -> np.ndarray | None:
    """[3] axis-angle of an eye's joint at weight 1 of the action; None for what does not turn it."""
    side = {"left_eye": 0, "right_eye": 1}.get(JOINT_NAMES[joint])
    if side is None or head.data.eye_drive is None:
        return None
    turn = np.asarray(head.data.eye_drive[action, side], np.float64)
    return turn if np.abs(turn).max() > 1e-6 else None


def _turned(place: np.ndarray, joint: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """[N, 3]: straight way to where a rotation about a joint takes each point."""
    about = place - joint.astype(np.float64)
    return about @ rotation_matrix(turn).T - about
